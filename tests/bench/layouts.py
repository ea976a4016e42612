#!/usr/bin/env python3
# bench: the same f32 loss curve on 1, 2 and 4 ranks, ZeRO 0 and 1, any micro-batch; the same layout twice bit-identical
import json
import pathlib
import tempfile

import bench_tools as tools

STEPS = 50
RECIPE = """
model: {{family: {family}, layers: 3, width: 96, heads: 6, {extra}}}
data: {{train: {store}, sequence: 64, tokenizer: byte}}
train: {{steps: {steps}, global_batch: 16, precision: f32, seed: 5}}
optim: {{name: {optim}, lr: {lr}, schedule: warmup_cosine, warmup: 5, weight_decay: 0.1, clip: 1.0}}
log: {{tensorboard: false}}
"""
FAMILIES = {
    "llama": "kv_heads: 2, ffn: 256, tie_embeddings: true",
    "gpt2": "dropout: 0.1",
}
LAYOUTS = [(1, 0, 16), (1, 0, 4), (1, 0, 1), (2, 0, 8), (2, 0, 2), (2, 1, 8), (2, 1, 1), (4, 0, 4), (4, 1, 4), (4, 1, 2)]


def curve(build, recipe, folder, ranks, zero, micro, extra=()):
    dir_ = folder / f"run_{ranks}_{zero}_{micro}"
    command = [f"{build}/deepflow", "train", recipe, f"run.dir={dir_}", f"train.micro_batch={micro}",
               f"parallel.zero={zero}", "train.threads=1", *extra]
    tools.run(tools.mpirun(ranks, command) if ranks > 1 else command)
    lines = [json.loads(line) for line in (dir_ / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    return [(s["loss"], s["gradient_norm"]) for s in steps]


def worst(a, b):
    return max(abs(x - y) / abs(y) for (x, _), (y, _) in zip(a, b))


def main():
    args = tools.arguments(("--steps", dict(type=int, default=STEPS)))
    cases, max_rel, identical, rows = 0, 0.0, True, []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text.txt").write_bytes(tools.corpus_bytes(2_000_000))
        tools.run([f"{args.build}/deepflow", "data", "tokenize", "--tokenizer", "byte", "--out", folder / "text.h5",
                   folder / "text.txt"])
        for family, extra in FAMILIES.items():
            for optim, lr in (("adamw", 1e-3), ("sgd", 0.05)):
                recipe = folder / f"{family}_{optim}.yaml"
                recipe.write_text(RECIPE.format(family=family, extra=extra, store=folder / "text.h5", steps=args.steps,
                                                optim=optim, lr=lr))
                reference = None
                for ranks, zero, micro in LAYOUTS:
                    result = curve(args.build, recipe, folder, ranks, zero, micro)
                    assert len(result) == args.steps
                    reference = reference or result
                    difference = worst(result, reference)
                    again = curve(args.build, recipe, folder, ranks, zero, micro) == result
                    identical &= again
                    cases += 1
                    max_rel = max(max_rel, difference)
                    rows.append([f"{family} {optim} ranks {ranks} zero {zero} micro-batch {micro}", difference,
                                 "yes" if again else "NO"])
    tools.print_table(["layout", "max rel", "bit-identical"], rows)
    tools.finish({"cases": cases, "max_rel": max_rel, "bit_identical": identical})


if __name__ == "__main__":
    main()
