#!/usr/bin/env python3
# bench: one training step on this CPU, beside PyTorch (eager and compiled, f32 and bf16, malloc as it is and tuned)
import itertools
import pathlib
import sys

import bench_tools as tools

HERE = pathlib.Path(__file__).parent
GPT2 = ("{family: gpt2, layers: 12, width: 768, heads: 12, vocabulary: 50257, max_positions: 1024}")
BYTES = ("{family: gpt2, layers: 6, width: 384, heads: 6, vocabulary: 256, max_positions: 256}")
SHAPES = {
    "gpt2_t64": ("gpt2", GPT2, 4, 64),
    "gpt2_t256": ("gpt2", GPT2, 4, 256),
    "bytes_d384": ("bytes_d384", BYTES, 16, 256),
}


def ours(build, yaml, batch, sequence, steps):
    return tools.last_json(tools.run([f"{build}/bench_cpu_step", "--model", yaml, "--batch", batch, "--sequence", sequence,
                                      "--steps", steps]).stdout)


def peer(model, batch, sequence, steps, dtype, compiled, tuned):
    command = [sys.executable, HERE / "cpu_step_peer.py", "--model", model, "--batch", batch, "--sequence", sequence,
               "--steps", steps, "--dtype", dtype] + (["--compile"] if compiled else [])
    env = {"GLIBC_TUNABLES": tools.TUNED_MALLOC} if tuned else {}
    result = tools.run(command, env=env, check=False)
    return tools.last_json(result.stdout) if result.returncode == 0 else None


def measure(build, name, steps, rounds):
    model, yaml, batch, sequence = SHAPES[name]
    variants = {(dtype, compiled, tuned): []
                for tuned, dtype, compiled in itertools.product([False, True], ["bf16", "f32"], [False, True])}
    mine = []
    for _ in range(rounds):
        for (dtype, compiled, tuned), results in variants.items():
            if len(results) and results[-1] is None:
                continue
            mine.append(ours(build, yaml, batch, sequence, steps))
            results.append(peer(model, batch, sequence, steps, dtype, compiled, tuned))

    step = tools.median([r["seconds"] for r in mine])
    rows = [[name + " deepflow bf16", step, batch * sequence / step, 1.0]]
    best = {}
    for (dtype, compiled, tuned), results in variants.items():
        good = [r for r in results if r]
        label = f"  torch {'compile' if compiled else 'eager'} {dtype}{' tuned malloc' if tuned else ''}"
        if not good:
            rows.append([label, "failed", "", ""])
            continue
        seconds = tools.median([r["seconds"] for r in good])
        rows.append([label, seconds, batch * sequence / seconds, seconds / step])
        if tuned not in best or seconds < best[tuned][0]:
            best[tuned] = (seconds, tools.median([r["rss"] for r in good]))
    tools.print_table(["", "s/step", "tokens/s", "ratio"], rows)
    return {
        "tokens_per_s": batch * sequence / step,
        "peer_tokens_per_s": batch * sequence / best[False][0],
        "ratio": best[False][0] / step,
        "ratio_tuned": best[True][0] / step,
        "gemm_share": tools.median([r["gemm_share"] for r in mine]),
        "gemm_gflops": tools.median([r["gemm_gflops"] for r in mine]),
        "rss_ratio": tools.median([r["rss"] for r in mine]) / best[False][1],
    }


def main():
    args = tools.arguments(("--shape", dict(choices=list(SHAPES), action="append")),
                           ("--steps", dict(type=int, default=7)), ("--rounds", dict(type=int, default=1)))
    tools.finish({name: measure(args.build, name, args.steps, args.rounds) for name in args.shape or SHAPES})


if __name__ == "__main__":
    main()
