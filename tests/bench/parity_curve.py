"""The loss curve of `deepflow train` beside PyTorch's: same initial folder, same batches, same AdamW."""
import json
import math

import bench_tools as tools
import h5py
import parity_models
import torch
from transformers import AutoModelForCausalLM

SEQUENCE, BATCH, LR, WARMUP, FINAL, DECAY, CLIP = 128, 8, 1e-3, 20, 0.1, 0.1, 1.0
RECIPE = """
model: {{init_from: {init}}}
data: {{train: {store}, sequence: {sequence}, shuffle: false, documents: joined}}
train: {{steps: {steps}, global_batch: {batch}, precision: {precision}, threads: {threads}}}
optim: {{name: adamw, lr: {lr}, schedule: warmup_cosine, warmup: {warmup}, final_lr: {final}, weight_decay: {decay},
        clip: {clip}}}
run: {{dir: {out}}}
log: {{tensorboard: false}}
"""


def make_store(build, root):
    (root / "text.txt").write_bytes(tools.corpus_bytes(600_000, skip=5_000_000))
    tools.run([f"{build}/deepflow", "data", "tokenize", "--tokenizer", "byte", "--out", root / "text.h5",
               root / "text.txt"])
    return root / "text.h5"


def deepflow_curve(build, root, init, store, steps, precision):
    out = root / f"{init.name}_{precision}"
    recipe = root / f"{init.name}_{precision}.yaml"
    recipe.write_text(RECIPE.format(init=init, store=store, steps=steps, precision=precision, out=out, batch=BATCH,
                                    sequence=SEQUENCE, lr=LR, warmup=WARMUP, final=FINAL, decay=DECAY, clip=CLIP,
                                    threads=torch.get_num_threads()))
    tools.run([f"{build}/deepflow", "train", recipe])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    curve = [line["loss"] for line in lines if "loss" in line and "gradient_norm" in line]
    assert len(curve) == steps, (len(curve), steps)
    return curve


def learning_rate(step, steps):
    if step <= WARMUP:
        return LR * step / WARMUP
    t = (step - WARMUP) / (steps - WARMUP)
    return LR * (FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * t)))


def torch_curve(init, tokens, steps, bf16=False, attention="sdpa", micro_batch=BATCH):
    model = AutoModelForCausalLM.from_pretrained(init, attn_implementation=attention)
    model.train()  # dropout is 0
    matrices = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=DECAY), dict(params=rest, weight_decay=0.0)], lr=LR,
                                  betas=(0.9, 0.95), eps=1e-8)
    curve = []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        total = 0.0
        for first in range((step - 1) * BATCH, step * BATCH, micro_batch):
            windows = torch.stack([tokens[i * SEQUENCE:(i + 1) * SEQUENCE + 1] for i in range(first, first + micro_batch)])
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(windows[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
            loss = loss * (micro_batch / BATCH)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        curve.append(total)
    return curve


def largest(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


def compare(build, root, store, steps):
    """max_curve_diff: the largest difference in nats of the f32 curves. For bf16, two PyTorch runs differ in the order of
    their sums only: the distance from the nearer one over the distance of the two, and the distance from the f32 curve
    over that of the worse of the two."""
    with h5py.File(store) as file:
        tokens = torch.from_numpy(file["tokens"][:].astype("int64"))
    models = {"gpt2": parity_models.gpt2(4, 128, 4, SEQUENCE), "llama": parity_models.llama(4, 128, 4, 2, 352, SEQUENCE)}
    rows, figures = [], {"max_curve_diff": 0.0, "bf16_distance_over_spread": 0.0, "bf16_error_over_peer": 0.0}
    for name, model in models.items():
        init = root / f"{name}_curve"
        model.save_pretrained(init)
        ours, theirs = deepflow_curve(build, root, init, store, steps, "f32"), torch_curve(init, tokens, steps)
        half = deepflow_curve(build, root, init, store, steps, "bf16")
        peers = [torch_curve(init, tokens, steps, bf16=True),
                 torch_curve(init, tokens, steps, bf16=True, attention="eager", micro_batch=BATCH // 2)]
        spread, distance = largest(*peers), min(largest(half, peer) for peer in peers)
        error, peer_error = largest(half, theirs), max(largest(peer, theirs) for peer in peers)
        found = (largest(ours, theirs), distance / spread, error / peer_error)
        figures = {key: max(figures[key], value) for key, value in zip(figures, found)}
        rows.append([name, theirs[0], theirs[-1], found[0], distance, spread, error, peer_error])
    tools.print_table([f"{steps} steps", "first loss", "last loss", "f32 difference", "bf16 distance", "PyTorch's spread",
                       "bf16 error", "PyTorch's error"], rows)
    return figures
