#!/usr/bin/env python3
# bench: seconds from process start to the first finished step of the quickstart model; what steps cost beside computing
import json
import pathlib
import tempfile
import time

import bench_tools as tools

RECIPE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "quickstart.yaml"


def train(build, folder, ranks, steps, *options):
    command = [f"{build}/deepflow", "train", RECIPE, f"run.dir={folder}/run", f"data.train={folder}/text.h5",
               "data.heldout=", f"data.tokenizer={folder}/tokenizer.json", f"train.steps={steps}", "optim.warmup=0",
               "checkpoint.every=0",
               *options]
    tools.run(tools.mpirun(ranks, command) if ranks > 1 else command)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def once(build, folder, ranks):
    """Wall time of a whole one-step run, so that no clock of the program itself is trusted."""
    begin = time.time()
    step = train(build, folder, ranks, 1)[0]
    whole = time.time() - begin
    # metrics.jsonl is flushed when the step has finished; what follows (writing the model) is not start-up.
    return (folder / "run" / "metrics.jsonl").stat().st_mtime - begin, whole, step["seconds"]


def outside_share(build, folder):
    """Share of the time between steps (the next batch, metrics, TensorBoard, progress, a trace of every step)."""
    steps = train(build, folder, 1, 40, "log.trace_from=1", "log.trace_steps=40")
    inside = sum(s["seconds"] for s in steps[-19:]) / 19  # tokens_per_second is the clock's, over as many steps
    whole = (steps[1]["tokens"] - steps[0]["tokens"]) / steps[-1]["tokens_per_second"]
    return 1 - inside / whole


def main():
    args = tools.arguments(("--runs", dict(type=int, default=5)))
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text.txt").write_bytes(tools.corpus_bytes(4_000_000))
        tools.run([f"{args.build}/deepflow", "data", "train-tokenizer", "--vocabulary", 4096, "--out",
                   folder / "tokenizer.json", folder / "text.txt"])
        tools.run([f"{args.build}/deepflow", "data", "tokenize", "--tokenizer", folder / "tokenizer.json", "--out",
                   folder / "text.h5", folder / "text.txt"])
        for ranks in (1, 2):
            runs = [once(args.build, folder, ranks) for _ in range(args.runs)]
            first, whole, step = (tools.median(column) for column in zip(*runs))
            rows.append([f"{ranks} rank{'s' if ranks > 1 else ''}", first, step, whole])
            figures["seconds" if ranks == 1 else f"seconds_{ranks}_ranks"] = first
        figures["outside_share"] = outside_share(args.build, folder)
    print(f"outside of the steps: {100 * figures['outside_share']:.2f} % of the time")
    tools.print_table(["", "to the first step", "the step itself", "whole run"], rows)
    tools.finish(figures)


if __name__ == "__main__":
    main()
