#!/usr/bin/env python3
# bench: generation with GPT-2 124M beside transformers generate (f32 and bf16, malloc as it is and tuned)
import itertools
import json
import os
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


class Paced:
    """A program that decodes once for every line it gets."""

    def __init__(self, command, env=None):
        self.process = subprocess.Popen([str(c) for c in command], env={**os.environ, **(env or {})}, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.once()  # warms up

    def once(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def start_ours(build, model):
    return Paced([f"{build}/bench_decode", "--model", model, "--prompt", PROMPT, "--new-tokens", NEW_TOKENS, "--paced"])


def start_peer(model, dtype, tuned):
    env = {"GLIBC_TUNABLES": tools.TUNED_MALLOC} if tuned else {}
    return Paced([sys.executable, HERE / "decode_peer.py", "--model", model, "--dtype", dtype, "--prompt", PROMPT,
                  "--new-tokens", NEW_TOKENS], env)


def equal_beginning(a, b):
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b)))


def measure(build, model, rounds):
    variants = list(itertools.product([False, True], ["bf16", "f32"]))
    ratios, theirs, text = {v: [] for v in variants}, {v: [] for v in variants}, None
    own = start_ours(build, model)
    for tuned, dtype in variants:
        other = start_peer(model, dtype, tuned)
        for _ in range(rounds):
            before, result, after = own.once(), other.once(), own.once()
            theirs[tuned, dtype].append(result["tokens_per_s"])
            ratios[tuned, dtype].append((before + after) / 2 / result["tokens_per_s"])
            text = result["text"] if dtype == "f32" else text
        other.end()
    own.end()
    mine = ours(build, model, "--rounds", rounds)
    exact = ours(build, model, "--precision", "f32", "--rounds", 1)

    rows = [["deepflow bf16", mine["tokens_per_s"], 1.0],
            ["deepflow bf16, 16 sequences", mine["batch_tokens_per_s"], ""],
            ["deepflow f32", exact["tokens_per_s"], ""]]
    for tuned, dtype in variants:
        rows.append([f"transformers {dtype}{' tuned malloc' if tuned else ''}",
                     tools.median(theirs[tuned, dtype]),
                     tools.median(ratios[tuned, dtype])])
    tools.print_table(["", "tokens/s", "ratio"], rows)
    return {
        "ratio": min(tools.median(ratios[False, dtype]) for dtype in ("bf16", "f32")),
        "ratio_tuned": min(tools.median(ratios[True, dtype]) for dtype in ("bf16", "f32")),
        "bandwidth_share": mine["bandwidth_share"],
        "batch16": mine["batch_gain"],
        "batch16_bandwidth_share": mine["batch_bandwidth_share"],
        "tokens_per_s": mine["tokens_per_s"],
        "batch16_tokens_per_s": mine["batch_tokens_per_s"],
        "prefill_tokens_per_s": mine["prefill_tokens_per_s"],
        "prefill_over_forward": mine["prefill_over_forward"],
        "read_gb_per_s": mine["read_gb_per_s"],
        "bytes_per_token": mine["bytes_per_token"],
        "f32_equal_tokens": equal_beginning(exact["text"], text),
        "f32_bandwidth_share": exact["bandwidth_share"],
    }


def main():
    args = tools.arguments(("--rounds", dict(type=int, default=7)))
    with tempfile.TemporaryDirectory() as model:
        subprocess.run([sys.executable, "-c", MAKE_MODEL, model], check=True, stderr=subprocess.DEVNULL)
        tools.finish(measure(args.build, model, args.rounds))


if __name__ == "__main__":
    main()
