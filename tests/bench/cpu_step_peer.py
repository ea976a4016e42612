"""One PyTorch training run on the CPU, as cpu_step.py's peer: random tokens, scaled-dot-product attention, fused AdamW,
clipping at 1. Prints one JSON object."""
import argparse
import json
import resource
import statistics
import time

import torch
import transformers


def build(model):
    common = dict(attn_implementation="sdpa", use_cache=False)
    if model == "gpt2":
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **common)
        return transformers.GPT2LMHeadModel(config)
    if model == "llama_135m":
        config = transformers.LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536,
                                          num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
                                          max_position_embeddings=2048, tie_word_embeddings=True, **common)
        return transformers.LlamaForCausalLM(config)
    config = transformers.GPT2Config(vocab_size=256, n_positions=256, n_embd=384, n_layer=6, n_head=6, resid_pdrop=0,
                                     embd_pdrop=0, attn_pdrop=0, **common)
    return transformers.GPT2LMHeadModel(config)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["gpt2", "bytes_d384", "llama_135m"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--sequence", type=int, required=True)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = build(args.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss_of(ids, labels):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            logits = model(ids).logits
            return torch.nn.functional.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1))

    forward = torch.compile(loss_of) if args.compile else loss_of
    seconds = []
    for step in range(args.steps):
        ids = torch.randint(0, model.config.vocab_size, (args.batch, args.sequence + 1))
        begin = time.perf_counter()
        loss = forward(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        if step >= 2:
            seconds.append(time.perf_counter() - begin)
    step = statistics.median(seconds)
    print(json.dumps({"seconds": step, "tokens_per_s": args.batch * args.sequence / step,
                      "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
