"""PyTorch's scaled_dot_product_attention, forward and backward, as attention.py's peer: causal, bf16, 12 heads of 64,
inputs [batch, heads, sequence, 64] as PyTorch likes them. Reads "BATCH SEQUENCE DOCUMENTS REPEATS" line by line (without
documents: its causal kernel knows none) and prints one JSON object for each."""
import argparse
import json
import statistics
import sys
import time

import torch


def attend(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    function = torch.compile(attend, dynamic=False) if args.compile else attend
    for line in sys.stdin:
        batch, sequence, _, repeats = map(int, line.split())
        inputs = [torch.randn(batch, 12, sequence, 64, dtype=torch.bfloat16).requires_grad_() for _ in range(3)]
        gradient = torch.randn(batch, 12, sequence, 64, dtype=torch.bfloat16)
        total, forward = [], []
        for i in range(-2, repeats):
            begin = time.perf_counter()
            o = function(*inputs)
            middle = time.perf_counter()
            torch.autograd.grad(o, inputs, gradient)
            end = time.perf_counter()
            if i >= 0:
                total.append(end - begin)
                forward.append(middle - begin)
        print(json.dumps({"seconds": statistics.median(total), "forward": statistics.median(forward)}), flush=True)


if __name__ == "__main__":
    main()
