#!/usr/bin/env python3
# bench: peak of state and of activations per rank under zero 0-3, recompute, tp, sp, cp, pp, against docs/memory.md
import json

import bench_tools as tools

LIMIT = 0.10


def deviation(pair):
    return abs(pair[0] / pair[1] - 1)


def worst(pairs):
    return max(pairs, key=deviation)


def main():
    args = tools.arguments(("--ranks", dict(type=int, nargs="*", default=[1, 2, 4])),
                           ("--only", dict(default="", help="a part of the names of the cases to run")))
    rows, found = [], []
    for ranks in args.ranks:
        out = tools.run(tools.mpirun(ranks, [f"{args.build}/bench_memory", args.only])).stdout
        found += [json.loads(line) for line in out.splitlines()]
    for case in found:
        row = [case["layout"]]
        for what in ("state", "activations"):
            measured, expected = worst(case[what])
            row += [measured / 1e6, expected / 1e6, f"{100 * (measured / expected - 1):+.1f} %"]
        rows.append(row)
    print("MB of the rank that deviates most")
    tools.print_table(["layout", "state", "arithmetic", "", "activations", "arithmetic", ""], rows)
    figures = {what: max(deviation(pair) for case in found for pair in case[what]) for what in ("state", "activations")}
    most = max(figures.values())
    tools.finish({"cases": len(found), "max_deviation": round(most, 4), "state": round(figures["state"], 4),
                  "activations": round(figures["activations"], 4)})
    if not most <= LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
