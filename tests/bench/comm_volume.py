#!/usr/bin/env python3
# bench: bytes that all ranks send in a step, by axis, as counted and by the formulas of docs/communication.md
import json
import pathlib
import tempfile

import bench_tools as tools
from comm_formulas import Layout

MODEL = dict(layers=4, width=64, heads=8, kv_heads=4, ffn=192, vocabulary=257, tied=False)
BATCH, SEQUENCE, STEPS = 16, 64, 4
RECIPE = """
model: {{family: {family}, layers: {layers}, width: {width}, heads: {heads}, kv_heads: {kv_heads}, ffn: {ffn},
  tie_embeddings: {tied}}}
data: {{train: {store}, sequence: {sequence}, tokenizer: byte}}
train: {{steps: {steps}, global_batch: {batch}, threads: 1}}
optim: {{name: adamw, lr: 1.0e-3}}
log: {{tensorboard: false, comm_bytes: true}}
"""
PIPE = dict(pp=2, chunks=[2, 2])
LAYOUTS = [  # each way alone, then together; micro_batch 4 unless given
    dict(dp=2, zero=0), dict(dp=2, zero=1), dict(dp=2, zero=2), dict(dp=2, zero=3),
    dict(dp=2, zero=3, precision="bf16"), dict(dp=2, zero=3, bucket_elements=20000, micro_batch=8),
    dict(tp=2), dict(tp=2, precision="bf16"), dict(tp=2, sp=True), dict(tp=2, sp=True, overlap=False),
    dict(tp=2, sp=True, precision="bf16", recompute="full"), dict(tp=2, recompute="full"),
    dict(cp=2), dict(cp=2, precision="bf16"), dict(cp=2, method="ulysses"), dict(cp=2, zero=3, recompute="full"),
    PIPE, dict(pp=2, chunks=[1, 1, 1, 1], stage_of_chunk=[0, 1, 0, 1], vp=2),
    dict(pp=2, chunks=[1, 1, 1, 1], stage_of_chunk=[0, 1, 1, 0], schedule="zb_v"), dict(**PIPE, tied=True),
    dict(dp=4, zero=0), dict(dp=4, zero=0, bucket_elements=1024), dict(dp=4, zero=1), dict(dp=4, zero=2),
    dict(dp=4, zero=1, shard=2), dict(dp=4, zero=2, shard=2), dict(dp=4, zero=3, shard=2), dict(dp=4, zero=3),
    dict(tp=4), dict(tp=4, sp=True), dict(tp=4, sp=True, kv_heads=2), dict(tp=4, kv_heads=1),
    dict(cp=4), dict(cp=4, method="ulysses"), dict(cp=4, method="ulysses", kv_heads=2), dict(pp=4, chunks=[1, 1, 1, 1]),
    dict(dp=2, tp=2, sp=True, zero=1), dict(dp=2, tp=2, zero=0), dict(dp=2, cp=2, zero=0), dict(dp=2, cp=2, zero=2),
    dict(dp=2, **PIPE, zero=1), dict(dp=2, **PIPE, zero=2, tied=True), dict(tp=2, sp=True, **PIPE),
    dict(tp=2, **PIPE, tied=True), dict(tp=2, cp=2, sp=True), dict(tp=2, cp=2, method="ulysses", zero=3),
    dict(cp=2, **PIPE, zero=1), dict(dp=2, tp=2, sp=True, zero=2), dict(dp=2, tp=2, sp=True, zero=3),
]
EXPERTS = dict(experts=4, choices=2, balance_loss=0.0)
BALANCED = {**EXPERTS, "balance_loss": 0.01}
LAYOUTS += [  # of a Mixtral
    dict(dp=2, **BALANCED), dict(dp=2, ep=2, zero=0, **EXPERTS), dict(dp=2, ep=2, zero=2, precision="bf16", **EXPERTS),
    dict(dp=2, etp=2, zero=1, **EXPERTS), dict(dp=2, etp=2, recompute="full", **EXPERTS),
    dict(tp=2, ep=2, **EXPERTS), dict(tp=2, sp=True, ep=2, **BALANCED), dict(cp=2, ep=2, **BALANCED),
    dict(cp=2, etp=2, recompute="full", capacity=1.25, **EXPERTS),
    dict(dp=4, ep=2, zero=0, **EXPERTS), dict(dp=4, ep=2, zero=1, **EXPERTS), dict(dp=4, ep=2, zero=2, **EXPERTS),
    dict(dp=4, ep=2, zero=3, **EXPERTS), dict(dp=4, ep=4, zero=1, **EXPERTS), dict(dp=4, ep=4, zero=3, **EXPERTS),
    dict(dp=4, ep=2, etp=2, zero=1, **EXPERTS), dict(dp=4, ep=1, etp=2, zero=2, shard=2, **EXPERTS),
    dict(tp=4, ep=4, **EXPERTS), dict(tp=4, sp=True, etp=2, zero=2, **BALANCED),
    dict(dp=2, tp=2, ep=2, zero=1, **EXPERTS), dict(dp=2, tp=2, sp=True, ep=4, recompute="full", **EXPERTS),
    dict(tp=2, cp=2, sp=True, ep=2, etp=2, **BALANCED), dict(dp=2, ep=2, **PIPE, zero=1, **EXPERTS),
]
OF_MODEL = dict(kv_heads="kv_heads", tied="tie_embeddings", experts="experts", choices="expert_choices",
                balance_loss="balance_loss", capacity="capacity_factor")  # keys of the model section


def written(value):
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def count(build, recipe, folder, layout, model, number):
    names = {"overlap": "parallel.tp_overlap", "method": "parallel.cp_method", "chunks": "parallel.layers",
             "precision": "train.precision", "bucket_elements": "train.bucket_elements",
             "micro_batch": "train.micro_batch", "recompute": "model.recompute"}
    options = {"train.precision": "f32", "train.micro_batch": 4, "parallel.zero": 1, "parallel.sp": False}
    for key, value in layout.items():
        if key in OF_MODEL or key == "stage_of_chunk":
            continue
        options[names.get(key, f"parallel.{key}")] = value
    options |= {f"model.{name}": model[key] for key, name in OF_MODEL.items() if key in model}
    options["run.dir"] = folder / f"run{number}"
    ranks = layout.get("dp", 1) * layout.get("tp", 1) * layout.get("cp", 1) * layout.get("pp", 1)
    command = [f"{build}/deepflow", "train", recipe, *(f"{k}={written(v)}" for k, v in options.items())]
    tools.run(tools.mpirun(ranks, command) if ranks > 1 else command)
    lines = [json.loads(line) for line in (folder / f"run{number}" / "metrics.jsonl").read_text().splitlines()]
    steps = [{axes: n for axes, n in line["bytes_sent"].items() if n} for line in lines if "loss" in line]
    sent = [sum(layer["sent"] for layer in line["experts"]["layers"]) for line in lines if "experts" in line] or [0, 0]
    assert steps[-1] == steps[-2] or sent[-1] != sent[-2], f"{layout}: {steps[-2:]}"  # steady
    return ranks, steps[-1], sent[-1]


def expected(layout, model, rows_sent):
    silent = ("overlap", "kv_heads", "tied", "vp", "schedule", "micro_batch")  # change nothing, or are given otherwise
    known = {k: v for k, v in layout.items() if k not in (*silent, *OF_MODEL)}
    return Layout(model, BATCH, SEQUENCE, layout.get("micro_batch", 4), **known).bytes(rows_sent)


def main():
    args = tools.arguments(("--only", dict(type=int, nargs="*", help="numbers of layouts")))
    rows, mismatches = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # All tokens are the first rank's, with up to 4 of them; the end token lies in the rest that no sample has.
        (folder / "text.txt").write_bytes((b"0123456789 " * 2000)[:256 * SEQUENCE + SEQUENCE // 2])
        tools.run([f"{args.build}/deepflow", "data", "tokenize", "--tokenizer", "byte", "--out", folder / "text.h5",
                   folder / "text.txt"])
        recipes = {}
        for family in ("llama", "mixtral"):
            recipes[family] = folder / f"{family}.yaml"
            recipes[family].write_text(RECIPE.format(**{**MODEL, "tied": "false"}, family=family, steps=STEPS,
                                                     store=folder / "text.h5", sequence=SEQUENCE, batch=BATCH))
        chosen = LAYOUTS if not args.only else [LAYOUTS[i] for i in args.only]
        for number, layout in enumerate(chosen):
            model = {**MODEL, **{k: layout[k] for k in OF_MODEL if k in layout}}
            recipe = recipes["mixtral" if "experts" in layout else "llama"]
            ranks, counted, rows_sent = count(args.build, recipe, folder, layout, model, number)
            formula = expected(layout, model, rows_sent)
            text = f"{ranks} ranks: " + " ".join(f"{k}={written(v)}" for k, v in layout.items())
            for axes in sorted({*counted, *formula}):
                same = counted.get(axes, 0) == formula.get(axes, 0)
                mismatches += not same
                rows.append([text, axes, str(counted.get(axes, 0)), str(formula.get(axes, 0)),
                             "" if same else "DIFFERS"])
                text = ""
    tools.print_table(["layout", "axes", "counted", "formula", ""], rows)
    tools.finish({"layouts": len(chosen), "mismatches": mismatches})
    if mismatches:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
