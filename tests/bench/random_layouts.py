#!/usr/bin/env python3
# bench: random model x layout x micro-batching on 2, 4 and 8 ranks: the 20-step curve of one rank, twice the same bits
import json

import bench_tools as tools

LIMIT = 2e-5


def main():
    args = tools.arguments(("--cases", dict(type=int, default=40)), ("--seed", dict(type=int, default=1)),
                           ("--first", dict(type=int, default=0, help="number of the first case of each rank count")),
                           ("--ranks", dict(type=int, nargs="*", default=[2, 4, 8])))
    rows, results = [], []
    for i, ranks in enumerate(args.ranks):
        share = args.cases * (i + 1) // len(args.ranks) - args.cases * i // len(args.ranks)
        command = [f"{args.build}/bench_random_layouts", "--cases", share, "--first", args.first, "--seed", args.seed]
        out = tools.run(tools.mpirun(ranks, command)).stdout
        found = [json.loads(line) for line in out.splitlines()]
        assert len(found) == share, f"{len(found)} of {share} cases on {ranks} ranks"
        results += found
        rows += [[f"{ranks} ranks, case {r['case']}: {r['layout']}", r["max_rel"],
                  "yes" if r["bit_identical"] else "NO"] for r in found]
    tools.print_table(["case", "max rel", "bit-identical"], rows)
    # not (x <= limit): a NaN fails
    failed = sum(not (r["max_rel"] <= LIMIT) or not r["bit_identical"] for r in results)
    tools.finish({"cases": len(results), "failed": failed, "max_rel": max(r["max_rel"] for r in results)})
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
