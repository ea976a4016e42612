#!/usr/bin/env python3
# bench: a sequence of 32,768 tokens on four ranks (examples/long_context.yaml): memory per rank against one rank's
import json
import pathlib
import re
import tempfile

import bench_tools as tools

RECIPE = pathlib.Path(__file__).parents[2] / "examples" / "long_context.yaml"


def train(build, folder, name, ranks, steps, *overrides):
    dir_ = folder / name
    command = [f"{build}/deepflow", "train", RECIPE, f"data.train={folder}/train.h5", f"run.dir={dir_}",
               f"train.steps={steps}", "optim.schedule=constant", "optim.warmup=2", "log.tensorboard=false", *overrides]
    out = tools.run(tools.mpirun(ranks, command) if ranks > 1 else command).stdout
    peak = float(re.search(r"at most ([0-9.]+) GB of tensors a rank", out).group(1))
    lines = [json.loads(line) for line in (dir_ / "metrics.jsonl").read_text().splitlines()]
    return peak, [line["loss"] for line in lines if "loss" in line]


def main():
    args = tools.arguments(("--steps", dict(type=int, default=6)))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text.txt").write_bytes(tools.corpus_bytes(1_000_000))
        tools.run([f"{args.build}/deepflow", "data", "tokenize", "--tokenizer", "byte", "--out", folder / "train.h5",
                   folder / "text.txt"])
        ring, losses = train(args.build, folder, "ring", 4, args.steps)
        ulysses, others = train(args.build, folder, "ulysses", 4, args.steps, "parallel.cp_method=ulysses")
        alone, first = train(args.build, folder, "alone", 1, 1, "parallel.cp=1")
    tools.print_table(["layout", "GB a rank", "loss of the first step", f"of step {args.steps}"],
                      [["cp 4, ring", ring, losses[0], losses[-1]], ["cp 4, ulysses", ulysses, others[0], others[-1]],
                       ["one rank", alone, first[0], "-"]])
    ratio = alone / max(ring, ulysses)
    tools.finish({"tokens": 32768, "peak_cp4": ring, "peak_cp4_ulysses": ulysses, "peak_1": alone,
                  "ratio": round(ratio, 3), "loss_first": losses[0], "loss_last": losses[-1]})
    if not ratio > 3 or not losses[-1] < losses[0] or not others[-1] < others[0]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
