#!/usr/bin/env python3
# bench: one GPT-2 training step beside a straight-line program of the same step, without a framework (--source FILE)
import os
import re

import bench_tools as tools
from cpu_step import SHAPES, ours


def straight_line(program, batch, sequence, steps):
    env = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), "CLIP": "1"}
    text = tools.run([program, batch, sequence, steps], env=env).stdout
    return float(re.search(r"step med ([0-9.]+)", text).group(1)) * 1e-3


def main():
    args = tools.arguments(("--source", dict(required=True, help="the program, one C++ file that uses oneDNN")),
                           ("--steps", dict(type=int, default=9)), ("--pairs", dict(type=int, default=5)))
    program = f"{args.build}/straight_line_step"
    tools.run(["g++", "-O3", "-march=native", "-fopenmp", "-std=c++17", "-w", "-o", program, args.source, "-ldnnl"])
    figures, rows = {}, []
    for name in ("gpt2_t256", "gpt2_t64"):
        _, yaml, batch, sequence = SHAPES[name]
        pairs = []
        for _ in range(args.pairs):
            theirs = straight_line(program, batch, sequence, args.steps)
            pairs.append((ours(args.build, yaml, batch, sequence, args.steps)["seconds"], theirs))
        over = tools.median([a / b for a, b in pairs])
        rows.append([name, tools.median([a for a, _ in pairs]), tools.median([b for _, b in pairs]), over])
        figures[name] = {"over_ceiling": over}
    tools.print_table(["", "s/step", "straight line", "over_ceiling"], rows)
    tools.finish(figures)


if __name__ == "__main__":
    main()
