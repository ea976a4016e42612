#!/usr/bin/env python3
# bench: a layer of experts forward and backward beside PyTorch's fastest form of it, and its share of the GEMM rate
import pathlib
import sys

import bench_tools as tools

PEER = pathlib.Path(__file__).parent / "moe_layer_peer.py"
SHAPES = {
    "8x1024_top2": dict(experts=8, choices=2, width=512, ffn=1024, rows=4096),
    "64x256_top6": dict(experts=64, choices=6, width=512, ffn=256, rows=4096),
}


def options(shape, dtype, steps):
    return [x for key, value in {**shape, "dtype": dtype, "steps": steps}.items() for x in (f"--{key}", value)]


def ours(build, shape, dtype, steps):
    return tools.last_json(tools.run([f"{build}/bench_moe_layer", *options(shape, dtype, steps)]).stdout)


def peer(shape, dtype, steps, compiled, tuned):
    command = [sys.executable, PEER, *options(shape, dtype, steps)] + (["--compile"] if compiled else [])
    env = {"GLIBC_TUNABLES": tools.TUNED_MALLOC} if tuned else {}
    return {name: s for name, s in tools.last_json(tools.run(command, env=env).stdout).items() if isinstance(s, float)}


def measure(build, name, dtype, args):
    shape = SHAPES[name]
    mine, theirs = [], {}
    for _ in range(args.rounds):
        for compiled in [False, True] if args.compile else [False]:
            for tuned in [False, True]:
                mine.append(ours(build, shape, dtype, args.steps))
                for form, seconds in peer(shape, dtype, args.steps, compiled, tuned).items():
                    theirs.setdefault((tuned, compiled, form), []).append(seconds / mine[-1]["seconds"])
    figure = {key: tools.median([m[key] for m in mine]) for key in mine[0]}
    ratios = {key: tools.median(values) for key, values in theirs.items()}
    rows = [[f"{name} {dtype}", figure["seconds"] * 1e3, figure["gflops"], 1.0]]
    for (tuned, compiled, form), ratio in ratios.items():
        label = f"  torch {'compiled ' if compiled else ''}{form}{', tuned malloc' if tuned else ''}"
        rows.append([label, ratio * figure["seconds"] * 1e3, figure["gflops"] / ratio, ratio])
    tools.print_table(["", "ms", "GFLOP/s of experts", "ratio"], rows)
    print(f"  packed GEMM {figure['gemm_gflops']:.0f} GFLOP/s, expert products {figure['product_gflops']:.0f}")
    fastest = {tuned: min(r for (t, _, _), r in ratios.items() if t == tuned) for tuned in (False, True)}
    return {"gemm_share": figure["gemm_share"], "ratio": fastest[False], "ratio_tuned": fastest[True],
            "overhead": figure["overhead"], "product_share": figure["product_gflops"] / figure["gemm_gflops"]}


def main():
    args = tools.arguments(("--shape", dict(choices=list(SHAPES), action="append")),
                           ("--dtype", dict(choices=["bf16", "f32"], action="append")),
                           ("--steps", dict(type=int, default=12)), ("--rounds", dict(type=int, default=2)),
                           ("--compile", dict(action="store_true", help="also torch.compile")))
    tools.finish({f"{name}_{dtype}": measure(args.build, name, dtype, args)
                  for name in args.shape or SHAPES for dtype in args.dtype or ["bf16", "f32"]})


if __name__ == "__main__":
    main()
