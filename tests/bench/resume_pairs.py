#!/usr/bin/env python3
# bench: random pairs of layouts: saved on one, resumed on the other, beside one rank that never stops
import bench_tools as tools
import random_layouts


def verdict(r):
    if random_layouts.is_good(r):
        return ""
    return "FAILED " + "; ".join(r.get("faults", []))[:300]


def main():
    args = tools.arguments(("--pairs", dict(type=int, default=60)), ("--ranks", dict(type=int, default=4)),
                           ("--seed", dict(type=int, default=1)),
                           ("--first", dict(type=int, default=0, help="number of the first pair")))
    program = f"{args.build}/bench_resume_pairs"
    results = random_layouts.run_cases(program, args.ranks, args.first, args.pairs, args.seed)
    tools.print_table(["pair", "max rel", "choices moved", ""],
                      [[f"{r['case']}: {r['layout']}", r["max_rel"],
                        f"{r['moved']} of {r['choices']}" if "moved" in r else "", verdict(r)] for r in results])
    failed = sum(not random_layouts.is_good(r) for r in results)
    worst = [r.get("max_rel_before", r["max_rel"]) for r in results]
    tools.finish({"pairs": len(results), "failed": failed, "max_rel": None if None in worst else max(worst),
                  "ranks": args.ranks, "drawn": sum(r.get("drawn", 0) for r in results),
                  "pairs_with_ties": sum(r.get("moved", 0) > 0 for r in results)})
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
