"""A layer of experts with given routing in PyTorch, forward and backward, as moe_layer.py's peer: rows sorted by expert
and torch._grouped_mm, or a loop over the experts; weights in the compute dtype, as PyTorch is fastest with. Prints one
JSON object: median seconds of each form."""
import argparse
import json
import statistics
import time

import torch
from torch.nn.functional import silu


def sorted_rows(expert, experts):
    order = torch.argsort(expert.reshape(-1), stable=True)
    counts = torch.bincount(expert.reshape(-1), minlength=experts)
    return order, counts


def together_by_index_add(y, weights, order, x):
    rows = order // weights.shape[1]
    scaled = y * weights.reshape(-1)[order].unsqueeze(1).to(y.dtype)
    return torch.zeros_like(x).index_add(0, rows, scaled)


def together_by_inverse(y, weights, order, x):
    back = torch.empty_like(order)
    back[order] = torch.arange(order.numel())
    rows = y[back].view(*weights.shape, -1)
    return (rows * weights.unsqueeze(2).to(y.dtype)).sum(1)


def grouped(x, expert, weights, gate_up, down, together):
    order, counts = sorted_rows(expert, gate_up.shape[0])
    ends = counts.cumsum(0).to(torch.int32)
    hidden = torch._grouped_mm(x[order // weights.shape[1]], gate_up.transpose(1, 2), offs=ends)
    gate, up = hidden.chunk(2, dim=1)
    y = torch._grouped_mm(silu(gate) * up, down.transpose(1, 2), offs=ends)
    return together(y, weights, order, x)


def loop(x, expert, weights, gate_up, down, together):
    order, counts = sorted_rows(expert, gate_up.shape[0])
    parts = x[order // weights.shape[1]].split(counts.tolist())
    results = []
    for e, rows in enumerate(parts):
        gate, up = (rows @ gate_up[e].t()).chunk(2, dim=1)
        results.append((silu(gate) * up) @ down[e].t())
    return together(torch.cat(results), weights, order, x)


FORMS = {
    "grouped, index_add": (grouped, together_by_index_add),
    "grouped, inverse": (grouped, together_by_inverse),
    "loop, inverse": (loop, together_by_inverse),
}


def seconds_of(function, leaves, expert, together, gradient, steps):
    seconds = []
    for step in range(-2, steps):
        x, weights, gate_up, down = leaves
        begin = time.perf_counter()
        y = function(x, expert, weights, gate_up, down, together)
        torch.autograd.grad(y, leaves, gradient)
        if step >= 0:
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser()
    for name in ("experts", "choices", "width", "ffn", "rows", "steps"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--dtype", choices=["bf16", "f32"], required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    leaf = lambda *shape: (torch.randn(*shape) * 0.05).to(dtype).requires_grad_()
    chosen = torch.randn(args.rows, args.experts).softmax(1).topk(args.choices)
    weights = (chosen.values / chosen.values.sum(1, keepdim=True)).requires_grad_()
    leaves = [leaf(args.rows, args.width), weights, leaf(args.experts, 2 * args.ffn, args.width),
              leaf(args.experts, args.width, args.ffn)]
    gradient = torch.randn(args.rows, args.width).to(dtype)
    found = {}
    for name, (function, together) in FORMS.items():
        try:
            used = torch.compile(function, dynamic=False) if args.compile else function
            found[name] = seconds_of(used, leaves, chosen.indices, together, gradient, args.steps)
        except Exception as error:  # a form that this PyTorch lacks for the dtype
            found[name] = None
            found[name + " error"] = str(error).splitlines()[0]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
