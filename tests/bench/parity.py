#!/usr/bin/env python3
# bench: loss, logits, gradients, generation, folders and loss curves against PyTorch and transformers with the same weights and data
import pathlib
import sys
import subprocess
import tempfile

import bench_tools as tools
import parity_curve
import parity_models
import torch
import transformers
from safetensors.torch import load_file

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
import expert_names
from transformers_load import Complaints, load_model

RECIPE = """
model: {{init_from: {init}}}
data: {{train: {store}, sequence: 32, tokenizer: byte}}
train: {{steps: 0, global_batch: 1, precision: f32}}
run: {{dir: {out}}}
"""


def relative(value, expected):
    scale = expected.norm()  # 0: of an expert that no token went to
    return ((value - expected).norm() / (scale if scale > 0 else 1)).item()


def relative_gradients(ours, theirs):
    """Of each gradient. One that is 0 in mathematics, as a router's that weighs a single choice with 1, is a rounding
    error in PyTorch, up to 1e-8 of all gradients together, and has to be exactly 0 in ours."""
    whole = sum(grad.norm() ** 2 for grad in theirs.values()) ** 0.5
    return {name: 0.0 if grad.norm() <= 1e-8 * whole and not ours[name].any() else relative(ours[name], grad)
            for name, grad in theirs.items()}


def probe(build, folder, tokens, precision):
    out = folder / f"probe_{precision}.safetensors"
    tools.run([f"{build}/deepflow", "probe", "--init", folder, "--tokens", tokens, "--grads", "--out", out, "--precision",
               precision])
    return load_file(out)


def compare(build, folder, case, ids):
    """Largest relative differences of f32 loss, logits and gradients, and of bf16 logits for information."""
    tokens = folder / "tokens.txt"
    tokens.write_text("".join(" ".join(map(str, row)) + "\n" for row in ids.tolist()))
    model = case.model.float()
    model.zero_grad()
    output = model(input_ids=ids, labels=ids)
    output.loss.backward()
    ours = probe(build, folder, tokens, "f32")
    theirs = expert_names.as_in_files(model, {name: p.grad for name, p in model.named_parameters()})
    missing = set(theirs) ^ (set(ours) - {"logits", "loss"})
    assert case.module or not missing, f"{case.name}: {missing}"
    if case.module:  # its gradients are those of both losses: tests/parity compares them
        theirs = {}
    gradients = relative_gradients(ours, theirs)
    worst = max(gradients, key=gradients.get) if gradients else ""
    return {"loss": abs(ours["loss"].item() - output.loss.item()) / output.loss.item(),
            "logits": relative(ours["logits"], output.logits.detach()),
            "grad": gradients.get(worst, 0.0), "worst": worst,
            "bf16": relative(probe(build, folder, tokens, "bf16")["logits"], output.logits.detach())}


def round_trip(build, folder, store, case):
    """transformers -> DeepFlow -> transformers: every tensor equal, nothing missing, no warning."""
    out = folder / "run"
    (folder / "recipe.yaml").write_text(RECIPE.format(init=folder, store=store, out=out))
    tools.run([f"{build}/deepflow", "train", folder / "recipe.yaml"])
    if case.module:
        return
    with Complaints() as complaints:
        tokenizer = transformers.AutoTokenizer.from_pretrained(out / "model")
    model, texts = load_model(out / "model")
    assert not texts + complaints.texts, f"{case.name}: {texts + complaints.texts}"
    assert tokenizer.decode(tokenizer("Ocean, n.")["input_ids"]) == "Ocean, n.", case.name
    theirs, again = case.model.state_dict(), model.state_dict()
    assert theirs.keys() == again.keys(), case.name
    for name, tensor in theirs.items():
        assert torch.equal(tensor.float(), again[name].float()), f"{case.name}: {name}"
    ids = torch.arange(16).view(1, 16)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, case.model.float()(ids).logits), f"{case.name}: configuration"


def greedy(build, folder, case):
    """The ids of greedy generation: ours with each kind of key-value cache and with drafts, ours again without a cache
    (the likeliest ids of one pass over all of it), and transformers' with and without. Only for models that speak bytes."""
    if case.model.config.vocab_size != 257:
        return 0
    prompt, new = b"Ocean, n.", 40
    model = case.model.float().eval()
    ids = torch.tensor([list(prompt)])
    with torch.no_grad():
        expected = [model.generate(ids, max_new_tokens=new, do_sample=False, use_cache=cache)[0].tolist()
                    for cache in (True, False)]
    assert expected[0] == expected[1], case.name
    expected = expected[0][:expected[0].index(256)] if 256 in expected[0] else expected[0]
    command = [f"{build}/deepflow", "generate", folder / "run", "--prompt", prompt.decode(), "--max-tokens", new,
               "--temperature", 0, "--precision", "f32"]
    ways = [[]]
    if hasattr(case.model.config, "kv_lora_rank"):
        ways.append(["--latent-cache", "false"])
    if case.module:
        ways += [way + ["--speculate"] for way in ways]
    for way in ways:
        said = subprocess.run([str(c) for c in command + way], check=True, capture_output=True).stdout[:-1]
        assert list(said) == expected, f"{case.name} {way}: {list(said)} for {expected}"
    tokens = folder / "greedy.txt"
    tokens.write_text(" ".join(map(str, expected)) + "\n")
    out = folder / "greedy.safetensors"
    tools.run([f"{build}/deepflow", "probe", "--init", folder, "--tokens", tokens, "--out", out, "--precision", "f32"])
    likeliest = load_file(out)["logits"][0].argmax(-1).tolist()
    assert likeliest[len(prompt) - 1:-1] == expected[len(prompt):], f"{case.name}: without a cache"
    return len(expected) - len(prompt)


def main():
    args = tools.arguments(("--steps", dict(type=int, default=200)))
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    rows, figures = [], {"max_rel_loss": 0.0, "max_rel_logits": 0.0, "max_rel_grad": 0.0}
    generated = 0
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        store = parity_curve.make_store(args.build, root)
        for case in parity_models.cases():
            folder = root / case.name
            case.save(folder)
            ids = torch.randint(0, case.model.config.vocab_size, (case.batch, case.sequence))
            result = compare(args.build, folder, case, ids)
            round_trip(args.build, folder, store, case)
            generated += greedy(args.build, folder, case)
            for key in ("loss", "logits", "grad"):
                figures[f"max_rel_{key}"] = max(figures[f"max_rel_{key}"], result[key])
            rows.append([case.name, result["loss"], result["logits"], result["grad"], result["worst"], result["bf16"]])
        tools.print_table(["model", "loss", "logits", "gradient", "the worst", "bf16 logits"], rows)
        print(f"{len(rows)} folders went through DeepFlow and back: equal tensors, no warning\n")
        print(f"{generated} ids generated alike, with and without a key-value cache, by both\n")
        figures["greedy_ids"] = generated
        figures |= parity_curve.compare(args.build, root, store, args.steps)
    tools.finish(figures)


if __name__ == "__main__":
    main()
