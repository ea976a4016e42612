#!/usr/bin/env python3
# bench: linear maps cut over two ranks: replicated rows, sequence parallelism plain and overlapped, the products alone
import bench_tools as tools


def main():
    args = tools.arguments(("--ranks", dict(type=int, default=2)), ("--rows", dict(type=int, default=1024)),
                           ("--in", dict(type=int, default=1024, dest="width")),
                           ("--out", dict(type=int, default=4096)), ("--rounds", dict(type=int, default=15)))
    command = [f"{args.build}/bench_tensor_linear", "--rows", args.rows, "--in", args.width, "--out", args.out,
               "--rounds", args.rounds]
    results = tools.last_json(tools.run(tools.mpirun(args.ranks, command)).stdout)
    tools.print_table(["", "forward ms", "backward ms", "a rank sends, MB"],
                      [[r["layout"], r["forward_ms"], r["backward_ms"], r["sent_mb"]] for r in results])
    total = {r["layout"]: r["forward_ms"] + r["backward_ms"] for r in results}
    tools.finish({f"{name}_ms": ms for name, ms in total.items()}
                 | {"overlap_gain": total["plain"] / total["overlapped"]})


if __name__ == "__main__":
    main()
