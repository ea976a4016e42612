#!/usr/bin/env python3
# bench: generation with GPT-2 124M beside transformers generate (f32 and bf16, malloc as it is and tuned)
import itertools
import pathlib
import subprocess
import sys
import tempfile

import bench_tools as tools

HERE = pathlib.Path(__file__).parent
PROMPT, NEW_TOKENS = 64, 128
MAKE_MODEL = """
import sys, torch, transformers
torch.manual_seed(0)
transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(sys.argv[1])
"""


def ours(build, model, *extra):
    return tools.last_json(tools.run([f"{build}/bench_decode", "--model", model, "--prompt", PROMPT, "--new-tokens",
                                      NEW_TOKENS, *extra]).stdout)


def peer(model, dtype, tuned, rounds):
    env = {"GLIBC_TUNABLES": tools.TUNED_MALLOC} if tuned else {}
    return tools.last_json(tools.run([sys.executable, HERE / "decode_peer.py", "--model", model, "--dtype", dtype,
                                      "--prompt", PROMPT, "--new-tokens", NEW_TOKENS, "--rounds", rounds],
                                     env=env).stdout)


def equal_beginning(a, b):
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b)))


def measure(build, model, pairs, rounds):
    variants = list(itertools.product([False, True], ["bf16", "f32"]))
    mine, ratios, theirs = [], {v: [] for v in variants}, {v: [] for v in variants}
    for _ in range(pairs):
        for tuned, dtype in variants:
            mine.append(ours(build, model, "--rounds", rounds))
            theirs[tuned, dtype].append(peer(model, dtype, tuned, rounds))
            ratios[tuned, dtype].append(mine[-1]["tokens_per_s"] / theirs[tuned, dtype][-1]["tokens_per_s"])
    exact = ours(build, model, "--precision", "f32", "--rounds", 1)

    def of_ours(name):
        return tools.median([m[name] for m in mine])

    rows = [["deepflow bf16", of_ours("tokens_per_s"), 1.0],
            ["deepflow bf16, 16 sequences", of_ours("batch_tokens_per_s"), ""],
            ["deepflow f32", exact["tokens_per_s"], ""]]
    for tuned, dtype in variants:
        rows.append([f"transformers {dtype}{' tuned malloc' if tuned else ''}",
                     tools.median([t["tokens_per_s"] for t in theirs[tuned, dtype]]),
                     tools.median(ratios[tuned, dtype])])
    tools.print_table(["", "tokens/s", "ratio"], rows)
    return {
        "ratio": min(tools.median(ratios[False, dtype]) for dtype in ("bf16", "f32")),
        "ratio_tuned": min(tools.median(ratios[True, dtype]) for dtype in ("bf16", "f32")),
        "bandwidth_share": of_ours("bandwidth_share"),
        "batch16": of_ours("batch_gain"),
        "batch16_bandwidth_share": of_ours("batch_bandwidth_share"),
        "tokens_per_s": of_ours("tokens_per_s"),
        "batch16_tokens_per_s": of_ours("batch_tokens_per_s"),
        "prefill_tokens_per_s": of_ours("prefill_tokens_per_s"),
        "prefill_over_forward": of_ours("prefill_over_forward"),
        "read_gb_per_s": of_ours("read_gb_per_s"),
        "bytes_per_token": of_ours("bytes_per_token"),
        "f32_equal_tokens": equal_beginning(exact["text"], theirs[False, "f32"][0]["text"]),
        "f32_bandwidth_share": exact["bandwidth_share"],
    }


def main():
    args = tools.arguments(("--pairs", dict(type=int, default=1)), ("--rounds", dict(type=int, default=3)))
    with tempfile.TemporaryDirectory() as model:
        subprocess.run([sys.executable, "-c", MAKE_MODEL, model], check=True, stderr=subprocess.DEVNULL)
        tools.finish(measure(args.build, model, args.pairs, args.rounds))


if __name__ == "__main__":
    main()
