#!/usr/bin/env python3
# bench: every op of a GPT-2 and a Llama block at 1,024 rows, against the floor that memory and arithmetic set
import bench_tools as tools


def main():
    args = tools.arguments(("--runs", dict(type=int, default=3)), ("--only", dict(default="")))
    runs = [tools.last_json(tools.run([f"{args.build}/bench_ops", "--only", args.only]).stdout) for _ in range(args.runs)]

    def middle(*path):
        def value(run):
            for key in path:
                run = run[key]
            return run
        return tools.median([value(run) for run in runs])

    print(f"memory {middle('bandwidth') * 1e-9:.1f} GB/s, reading alone {middle('read') * 1e-9:.1f} GB/s, packed GEMM "
          f"{middle('gemm') * 1e-9:.0f} GFLOP/s, {middle('fma_issue') * 1e-9:.1f} G vector FMA/s")
    rows, ratios = [], {}
    for op in runs[0]["ops"]:
        get = lambda key: middle("ops", op, key)
        memory, arithmetic = get("memory") * 1e6, get("arithmetic") * 1e6
        ratios[op] = get("ratio")
        rows.append([op, get("bytes") * 1e-6, get("flops") * 1e-6, get("instructions") * 1e-6, memory, arithmetic,
                     max(memory, arithmetic), get("seconds") * 1e6, ratios[op]])
    tools.print_table(["", "MB", "MFLOP", "M instr.", "memory us", "arithm. us", "floor us", "time us", "ratio"], rows)
    tools.finish({**ratios, "worst": max(ratios.values())})


if __name__ == "__main__":
    main()
