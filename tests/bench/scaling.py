#!/usr/bin/env python3
# bench: one training step on 1 thread, on 2 threads, and on 2 ranks of 1 thread each, for a small and a usual batch
import bench_tools as tools

GPT2 = "{family: gpt2, layers: 12, width: 768, heads: 12, vocabulary: 50257, max_positions: 1024}"
BATCHES = {"tokens_1024": (8, 128), "tokens_4096": (16, 256)}  # sequences of a step, their length
LAYOUTS = {  # ranks, threads of a rank, ZeRO stage
    "1 rank x 2 threads": (1, 2, 0),
    "2 ranks x 1 thread": (2, 1, 0),
    "2 ranks x 1 thread, ZeRO-1": (2, 1, 1),
    "1 rank x 1 thread": (1, 1, 0),
}


def measure(build, layout, batch, sequence, steps):
    ranks, threads, zero = LAYOUTS[layout]
    command = [f"{build}/bench_cpu_step", "--model", GPT2, "--batch", batch, "--sequence", sequence, "--steps", steps,
               "--threads", threads, "--zero", zero]
    return tools.last_json(tools.run(tools.mpirun(ranks, command) if ranks > 1 else command).stdout)


def compare(build, name, steps, rounds):
    results = {layout: [] for layout in LAYOUTS}
    for _ in range(rounds):
        for layout in LAYOUTS:
            results[layout].append(measure(build, layout, *BATCHES[name], steps))

    def ratio(over, under, key="tokens_per_s"):
        return tools.median([a[key] / b[key] for a, b in zip(results[over], results[under])])

    two, ranks, zero, one = LAYOUTS
    tools.print_table([name, "s/step", "tokens/s", "GEMM GFLOP/s of a rank"],
                      [[layout, *(tools.median([r[key] for r in runs])
                                  for key in ("seconds", "tokens_per_s", "peak_gflops"))]
                       for layout, runs in results.items()])
    # ZeRO-1 is what a recipe gets unless it says otherwise.
    return {"ranks_vs_threads": ratio(zero, two), "ranks_vs_threads_zero0": ratio(ranks, two),
            "threads_2_over_1": ratio(two, one), "gemm_2_over_1": ratio(two, one, "peak_gflops")}


def main():
    args = tools.arguments(("--steps", dict(type=int, default=7)), ("--rounds", dict(type=int, default=3)))
    tools.finish({name: compare(args.build, name, args.steps, args.rounds) for name in BATCHES})


if __name__ == "__main__":
    main()
