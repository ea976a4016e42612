#!/usr/bin/env python3
# bench: seconds from process start to the first finished step of the quickstart model, data prepared
import json
import pathlib
import tempfile
import time

import bench_tools as tools

RECIPE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "quickstart.yaml"


def once(build, folder, ranks):
    """Wall time of a whole one-step run, so that no clock of the program itself is trusted."""
    command = [f"{build}/deepflow", "train", RECIPE, f"run.dir={folder}/run", f"data.train={folder}/text.h5",
               "data.heldout=", f"data.tokenizer={folder}/tokenizer.json", "train.steps=1", "optim.warmup=0"]
    begin = time.time()
    tools.run(tools.mpirun(ranks, command) if ranks > 1 else command)
    whole = time.time() - begin
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    # metrics.jsonl is flushed when the step has finished; what follows (writing the model) is not start-up.
    step = next(json.loads(line) for line in lines if "loss" in line)
    return (folder / "run" / "metrics.jsonl").stat().st_mtime - begin, whole, step["seconds"]


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
    tools.print_table(["", "to the first step", "the step itself", "whole run"], rows)
    tools.finish(figures)


if __name__ == "__main__":
    main()
