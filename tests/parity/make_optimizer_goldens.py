#!/usr/bin/env python3
"""Writes tests/parity/goldens/optimizers.safetensors: parameters and gradients at random, and what the optimizers of
PyTorch and of this file make of them in f64. Run it again only when a case is added:
    python tests/parity/make_optimizer_goldens.py
"""
import math
import pathlib

import torch
from safetensors.torch import save_file

STEPS, LR, DECAY, BLOCK, EXPERTS = 6, 0.01, 0.1, 16, 3
SHAPES = {"wide": (24, 40), "tall": (40, 24), "experts": (EXPERTS, 20, 36), "embedding": (50, 24), "norm": (24,)}
HIDDEN = ("wide", "tall", "experts")


def learning_rate(step):
    return LR / math.sqrt(step)


def matrices(name, tensor):
    """Experts are matrices of their own."""
    return list(tensor) if name == "experts" else [tensor]


def by_torch(make, start, gradients):
    """make(tensors by name, decay) -> optimizer; names of matrices of an expert parameter: experts/0."""
    leaves = {}
    for name, tensor in start.items():
        for i, matrix in enumerate(matrices(name, tensor)):
            leaves[f"{name}/{i}"] = torch.nn.Parameter(matrix.clone())
    optimizers = make(leaves)
    for step in range(1, STEPS + 1):
        for key, leaf in leaves.items():
            name, i = key.split("/")
            leaf.grad = matrices(name, gradients[step][name])[int(i)].clone()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)
            optimizer.step()
    values = {}
    for name in start:
        parts = [leaf.detach() for key, leaf in leaves.items() if key.split("/")[0] == name]
        values[name] = torch.stack(parts) if name == "experts" else parts[0]
    return values


def groups(leaves, names=None):
    """Norms do not decay."""
    chosen = {k: v for k, v in leaves.items() if names is None or k.split("/")[0] in names}
    return [dict(params=[v for k, v in chosen.items() if not k.startswith("norm")], weight_decay=DECAY),
            dict(params=[v for k, v in chosen.items() if k.startswith("norm")], weight_decay=0.0)]


def adafactor(leaves):
    return [torch.optim.Adafactor(groups(leaves), lr=LR, beta2_decay=-0.8, eps=(1e-15, 1e-3), d=1.0)]


def torch_muon(leaves):
    hidden = [v for k, v in leaves.items() if k.split("/")[0] in HIDDEN]
    rest = [n for n in SHAPES if n not in HIDDEN]
    return [torch.optim.Muon(hidden, lr=LR, weight_decay=DECAY, momentum=0.95, nesterov=True,
                             adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(groups(leaves, rest), lr=LR, betas=(0.9, 0.95), eps=1e-8)]


def newton_schulz(g):
    x = g / (g.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


class Muon(torch.optim.Optimizer):
    """In f64 throughout, which torch.optim.Muon is not."""

    def __init__(self, params, nesterov, scale):
        super().__init__(params, dict(lr=LR))
        self.nesterov, self.scale = nesterov, scale

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.mul_(0.95).add_(p.grad, alpha=0.05)
                update = newton_schulz(0.05 * p.grad + 0.95 * m if self.nesterov else m)
                p.mul_(1 - group["lr"] * DECAY).add_(update, alpha=-group["lr"] * self.scale(*p.shape))


def muon(nesterov, scale):
    def make(leaves):
        hidden = [v for k, v in leaves.items() if k.split("/")[0] in HIDDEN]
        return [Muon(hidden, nesterov, scale), torch_muon(leaves)[1]]
    return make


class Lion(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, dict(lr=LR))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.sign(0.9 * m + 0.1 * p.grad))
                m.mul_(0.99).add_(p.grad, alpha=0.01)


def dynamic_map(has_sign):
    values = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, (2**i if has_sign else 2**(i + 1)) + 1, dtype=torch.float64)
        middles = 10.0**(i - 6) * (edges[:-1] + edges[1:]) / 2
        values += middles.tolist() + ((-middles).tolist() if has_sign else [])
    return torch.tensor(sorted(values), dtype=torch.float64)


def quantised(x, has_sign):
    """Blocks of a row, rounded to the nearest code; roots that are not 0 stay so."""
    codes = dynamic_map(has_sign)
    result = x.clone().reshape(-1, x.shape[-1])
    for begin in range(0, x.shape[-1], BLOCK):
        block = result[:, begin:begin + BLOCK]
        scale = block.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
        near = (block / scale).unsqueeze(-1).sub(codes).abs().argmin(-1)
        if not has_sign:
            near = torch.where((near == 0) & (block > 0), 1, near)
        block.copy_(codes[near] * scale)
    return result.reshape(x.shape)


class Adamw8bit(torch.optim.Optimizer):
    def __init__(self, leaves, params):
        super().__init__(params, dict(lr=LR))
        self.exact = [v for k, v in leaves.items() if k.split("/")[0] not in HIDDEN]

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                step = state["step"] = state.get("step", 0) + 1
                m, root = (state.setdefault(key, torch.zeros_like(p)) for key in ("m", "root"))
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                root.copy_((0.95 * root**2 + 0.05 * p.grad**2).sqrt())
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (m / (1 - 0.9**step)) / (root / math.sqrt(1 - 0.95**step) + 1e-8))
                if not any(p is e for e in self.exact):
                    m.copy_(quantised(m, True))
                    root.copy_(quantised(root, False))


CASES = {
    "adafactor": adafactor,
    "muon": muon(True, lambda rows, cols: 0.2 * math.sqrt(max(rows, cols))),
    "muon_jordan": muon(False, lambda rows, cols: math.sqrt(max(1, rows / cols))),
    "torch_muon": torch_muon,
    "lion": lambda leaves: [Lion(groups(leaves))],
    "adamw8bit": lambda leaves: [Adamw8bit(leaves, groups(leaves))],
}


def main():
    generator = torch.Generator().manual_seed(11)

    def normal(shape, scale):
        return (torch.randn(shape, generator=generator) * scale).double()

    start = {n: normal(s, 0.5) for n, s in SHAPES.items()}
    # Rows that differ by decades, as those of embeddings do.
    gradients = {step: {n: normal(s, 1.0) * (10.0 ** -torch.arange(s[-1]).remainder(4)).double() for n, s in SHAPES.items()}
                 for step in range(1, STEPS + 1)}
    out = {f"start/{n}": t for n, t in start.items()}
    for step, of_step in gradients.items():
        out |= {f"gradient/{step}/{n}": t.float().double() for n, t in of_step.items()}
    gradients = {step: {n: out[f"gradient/{step}/{n}"] for n in SHAPES} for step in gradients}
    for case, make in CASES.items():
        out |= {f"{case}/{n}": t for n, t in by_torch(make, start, gradients).items()}
    path = pathlib.Path(__file__).parent / "goldens" / "optimizers.safetensors"
    save_file({n: t.float().contiguous() for n, t in out.items()}, path)
    print(path.stat().st_size, "bytes, torch", torch.__version__)


if __name__ == "__main__":
    main()
