#!/usr/bin/env python3
# bench: one training step on this CPU, beside PyTorch (eager and compiled, malloc as it is and tuned)
import itertools
import pathlib
import sys

import bench_tools as tools

HERE = pathlib.Path(__file__).parent
GPT2 = ("{family: gpt2, layers: 12, width: 768, heads: 12, vocabulary: 50257, max_positions: 1024}")
BYTES = ("{family: gpt2, layers: 6, width: 384, heads: 6, vocabulary: 256, max_positions: 256}")
LLAMA = ("{family: llama, layers: 30, width: 576, heads: 9, kv_heads: 3, head_dim: 64, ffn: 1536, vocabulary: 49152, "
         "max_positions: 2048, tie_embeddings: true}")
SHAPES = {
    "gpt2_t64": ("gpt2", GPT2, 4, 64),
    "gpt2_t256": ("gpt2", GPT2, 4, 256),
    "bytes_d384": ("bytes_d384", BYTES, 16, 256),
    "llama_135m": ("llama_135m", LLAMA, 2, 512),
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


def dtypes(with_f32):
    # Where the CPU multiplies bf16, f32 is never PyTorch's best.
    with open("/proc/cpuinfo") as f:
        has_bf16 = "bf16" in f.read()
    return ["bf16", "f32"] if with_f32 or not has_bf16 else ["bf16"]


def measure(build, name, steps, rounds, with_f32):
    model, yaml, batch, sequence = SHAPES[name]
    variants = {(dtype, compiled, tuned): []
                for tuned, dtype, compiled in itertools.product([False, True], dtypes(with_f32), [False, True])}
    mine = []
    for _ in range(rounds):
        for (dtype, compiled, tuned), pairs in variants.items():
            mine.append(ours(build, yaml, batch, sequence, steps))
            theirs = peer(model, batch, sequence, steps, dtype, compiled, tuned)
            if theirs:
                pairs.append((theirs, theirs["seconds"] / mine[-1]["seconds"]))

    step = tools.median([r["seconds"] for r in mine])
    rows = [[name + " deepflow bf16", step, batch * sequence / step, 1.0, tools.median([r["rss"] for r in mine]) * 1e-9]]
    best = {}
    for (dtype, compiled, tuned), pairs in variants.items():
        label = f"  torch {'compile' if compiled else 'eager'} {dtype}{' tuned malloc' if tuned else ''}"
        if not pairs:
            rows.append([label, "failed", "", "", ""])
            continue
        seconds, ratio, rss = (tools.median(v) for v in ([p["seconds"] for p, _ in pairs], [r for _, r in pairs],
                                                         [p["rss"] for p, _ in pairs]))
        rows.append([label, seconds, batch * sequence / seconds, ratio, rss * 1e-9])
        if tuned not in best or ratio < best[tuned]["ratio"]:
            best[tuned] = {"seconds": seconds, "ratio": ratio, "rss": rss}
    tools.print_table(["", "s/step", "tokens/s", "ratio", "rss GB"], rows)
    return {
        "tokens_per_s": batch * sequence / step,
        "peer_tokens_per_s": batch * sequence / best[False]["seconds"],
        "ratio": best[False]["ratio"],
        "ratio_tuned": best[True]["ratio"],
        "gemm_share": tools.median([r["gemm_share"] for r in mine]),
        "peak_share": tools.median([r["peak_share"] for r in mine]),
        "gemm_gflops": tools.median([r["gemm_gflops"] for r in mine]),
        "rss_ratio": tools.median([r["rss"] for r in mine]) / best[False]["rss"],
    }


def main():
    args = tools.arguments(("--shape", dict(choices=list(SHAPES), action="append")),
                           ("--steps", dict(type=int, default=7)), ("--rounds", dict(type=int, default=1)),
                           ("--f32", dict(action="store_true", help="also PyTorch in f32")))
    tools.finish({name: measure(args.build, name, args.steps, args.rounds, args.f32) for name in args.shape or SHAPES})


if __name__ == "__main__":
    main()
