#!/usr/bin/env python3
# bench: attention forward and backward at three lengths, beside PyTorch's scaled_dot_product_attention
import os
import pathlib
import subprocess
import sys

import bench_tools as tools

HERE = pathlib.Path(__file__).parent
LENGTHS = (256, 1024, 4096)
TOKENS = 4096
HEADS, HEAD_DIM = 12, 64


class Program:
    """A program that answers each line "BATCH SEQUENCE DOCUMENTS REPEATS" with a line of JSON."""

    def __init__(self, command, env=None):
        self.process = subprocess.Popen([str(c) for c in command], env={**os.environ, **(env or {})}, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *line):
        print(*line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        return tools.last_json(answer) if answer else None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def gigaflops(sequence):
    # 2 products forward, 5 backward, over the unmasked half.
    return 7 * 2 * HEADS * HEAD_DIM * TOKENS * (sequence + 1) / 2 * 1e-9


def measure(ours, peers, sequence, rounds):
    """Seconds of ours and of every peer, and the median over the rounds of the best peer's time over ours."""
    repeats = max(3, 6 * 1024 // sequence)
    mine, theirs = [], {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            mine.append(ours.ask(TOKENS // sequence, sequence, 1, repeats))
            theirs[name].append((peer.ask(TOKENS // sequence, sequence, 1, repeats), mine[-1]["seconds"]))
    seconds = tools.median([m["seconds"] for m in mine])
    rows = [[f"T={sequence} deepflow", seconds * 1e3, tools.median([m["forward"] for m in mine]) * 1e3,
             gigaflops(sequence) / seconds, 1.0]]
    ratios = {}
    for name, pairs in theirs.items():
        if any(p is None for p, _ in pairs):
            rows.append([f"  {name}", "failed", "", "", ""])
            continue
        ratios[name] = tools.median([p["seconds"] / s for p, s in pairs])
        peer_seconds = tools.median([p["seconds"] for p, _ in pairs])
        rows.append([f"  {name}", peer_seconds * 1e3, tools.median([p["forward"] for p, _ in pairs]) * 1e3,
                     gigaflops(sequence) / peer_seconds, ratios[name]])
    return rows, {"ratio": min(ratios.values()), "gflops": gigaflops(sequence) / seconds,
                  "peak_bytes": max(m["peak"] for m in mine)}


def documents(ours, rounds):
    """Time and unmasked area of 16 documents over those of one, in one sequence of 4,096 tokens."""
    sequence, count = 4096, 16
    ratios = []
    for _ in range(rounds):
        one = ours.ask(1, sequence, 1, 3)
        ratios.append(ours.ask(1, sequence, count, 20)["seconds"] / one["seconds"])
    return {"time": tools.median(ratios), "area": (sequence // count + 1) / (sequence + 1)}


def main():
    args = tools.arguments(("--rounds", dict(type=int, default=3)), ("--threads", dict(type=int, default=2)))
    ours = Program([f"{args.build}/bench_attention", "--threads", args.threads])
    tuned = {"GLIBC_TUNABLES": tools.TUNED_MALLOC}
    peers = {f"torch {'compile' if compiled else 'eager'}{' tuned malloc' if env else ''}":
             Program([sys.executable, HERE / "attention_peer.py", "--threads", args.threads]
                     + (["--compile"] if compiled else []), env)
             for compiled in (False, True) for env in (None, tuned)}
    rows, figures = [], {}
    for sequence in LENGTHS:
        more, figures[f"T{sequence}"] = measure(ours, peers, sequence, args.rounds)
        rows += more
    figures["memory_growth"] = figures["T4096"]["peak_bytes"] / figures["T1024"]["peak_bytes"]
    figures["documents"] = documents(ours, args.rounds)
    for program in (ours, *peers.values()):
        program.close()
    tools.print_table(["", "ms", "forward ms", "GFLOP/s", "ratio"], rows)
    tools.finish(figures)


if __name__ == "__main__":
    main()
