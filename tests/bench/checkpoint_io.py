#!/usr/bin/env python3
# bench: save + load of a 1 GB training state beside torch.distributed.checkpoint, torch.save and the disk; stalls, memory
import json
import os
import pathlib
import shutil
import sys
import tempfile

import bench_tools as tools

RANKS = 2
EVERY, SAVES = 16, 6
RECIPE = """\
model: {family: llama, layers: 6, width: 256, heads: 8, kv_heads: 4, ffn: 704, tie_embeddings: true}
data: {train: text.h5, tokenizer: byte, sequence: 256}
train: {global_batch: 16, precision: bf16}
run: {dir: run}
"""


def rounds(args, state, scratch):
    """One object a round: DeepFlow, the disk and the peers in turns."""
    here = pathlib.Path(__file__).parent
    results = []
    for number in range(args.rounds):
        common = ["--state", state, "--dir", f"{scratch}/checkpoints", "--layers", args.layers]
        ours = tools.run(tools.mpirun(RANKS, [f"{args.build}/bench_checkpoint_io", "times", *common]))
        line = tools.last_json(ours.stdout)
        if not args.no_peers:
            peer = tools.run(tools.mpirun(RANKS, [sys.executable, here / "checkpoint_io_peer.py", *common]))
            line.update(tools.last_json(peer.stdout))
        results.append(line)
        print(f"round {number + 1}: {json.dumps({k: round(v, 3) for k, v in line.items()})}", flush=True)
    return {key: tools.median([r[key] for r in results]) for key in results[0]}


def train(args, scratch, steps, *overrides):
    shutil.rmtree(f"{scratch}/run", ignore_errors=True)
    tools.run(tools.mpirun(RANKS, [f"{args.build}/deepflow", "train", "recipe.yaml", f"train.steps={steps}", "log.every=1",
                                   *overrides]), cwd=scratch)
    lines = [json.loads(line) for line in (pathlib.Path(scratch) / "run/metrics.jsonl").read_text().splitlines()]
    return ({line["step"]: line["seconds"] for line in lines if "loss" in line},
            [line for line in lines if "checkpoint_write_seconds" in line])


def training(args, scratch):
    """How long a step is, and how much longer those are behind which a save is written."""
    (pathlib.Path(scratch) / "text.txt").write_bytes(tools.corpus_bytes(1 << 20))
    (pathlib.Path(scratch) / "recipe.yaml").write_text(RECIPE)
    tools.run([f"{args.build}/deepflow", "data", "tokenize", "--tokenizer", "byte", "--separator", "\n\n", "--out",
               "text.h5", "text.txt"], cwd=scratch)
    seconds, saves = train(args, scratch, EVERY * SAVES, f"checkpoint.every={EVERY}")
    # Of each save the steps behind it beside the later ones, when it has long been written: the machine's rate drifts.
    slower, step = [], []
    for first in range(EVERY, EVERY * SAVES, EVERY):
        later = tools.median([seconds[s] for s in range(first + EVERY // 2 + 1, first + EVERY + 1)])
        slower.append(sum(seconds[s] - later for s in range(first + 1, first + EVERY // 2 + 1)))
        step.append(later)
    return {"step": tools.median(step), "slower": tools.median(slower),
            "copy": tools.median([s["checkpoint_copy_seconds"] for s in saves]),
            "wait": max(s["checkpoint_wait_seconds"] for s in saves),
            "write": tools.median([s["checkpoint_write_seconds"] for s in saves])}


def main():
    args = tools.arguments(("--layers", dict(type=int, default=20, help="of 50 MB")),
                           ("--rounds", dict(type=int, default=3)), ("--scratch", dict(help="a folder on the disk")),
                           ("--no-peers", dict(action="store_true")))
    args.build = os.path.abspath(args.build)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch, tempfile.TemporaryDirectory(dir=shared) as state:
        program = f"{args.build}/bench_checkpoint_io"
        common = ["--state", state, "--dir", f"{scratch}/checkpoints", "--layers", args.layers]
        tools.run(tools.mpirun(RANKS, [program, "make", *common]))
        t = rounds(args, state, scratch)
        memory = tools.last_json(tools.run(tools.mpirun(RANKS, [program, "memory", *common])).stdout)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        run = training(args, scratch)
    report(args, t, memory, run)


def report(args, t, memory, run):
    ours, disk = t["save"] + t["load"], t["disk_write"] + t["disk_read"]
    rows = [["deepflow", t["stored"] / 1e9, t["save"], t["load"], ours],
            ["disk alone, the same bytes", t["stored"] / 1e9, t["disk_write"], t["disk_read"], disk]]
    for name, title in (("dcp", "torch.distributed.checkpoint"), ("torch", "torch.save, torch.load")):
        if f"{name}_save" in t:
            save, load = t[f"{name}_save"], t[f"{name}_load"]
            rows.append([title, t["raw"] / 1e9, save, load, save + load])
    print(f"{t['raw'] / 1e9:.2f} GB, {RANKS} ranks, on the disk behind a save and not in memory before a load")
    tools.print_table(["", "GB", "save s", "load s", "both s"], rows)
    print(f"asynchronous: call beyond the copy {memory['first']['beyond_copy'] * 1e3:.1f} and "
          f"{memory['second']['beyond_copy'] * 1e3:.1f} ms, memory beyond the copy {memory['first']['extra_mib']:.1f} and "
          f"{memory['second']['extra_mib']:.1f} MiB (first, differences)")
    print(f"training: step {run['step'] * 1e3:.0f} ms, copy {run['copy'] * 1e3:.1f} ms, written in "
          f"{run['write'] * 1e3:.0f} ms, waited at most {run['wait'] * 1e3:.1f} ms; the steps behind a save together "
          f"{run['slower'] * 1e3:.1f} ms longer")
    stall = (memory["second"]["beyond_copy"] + run["wait"]) / run["step"]
    figures = {"disk_share": disk / ours, "stall": stall, "slower": run["slower"] / run["step"],
               "extra_mib": max(memory[w]["extra_mib"] for w in ("first", "second")),
               "one_tensor_bytes": t["one_tensor_bytes"], "one_tensor_raw": t["one_tensor_raw"],
               "stored_share": t["stored"] / t["raw"]}
    for name in ("dcp", "torch"):
        if f"{name}_save" in t:
            figures[f"ratio_{name}"] = (t[f"{name}_save"] + t[f"{name}_load"]) / ours
    tools.finish({key: round(value, 4) for key, value in figures.items()})


if __name__ == "__main__":
    main()
