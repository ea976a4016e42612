"""Greedy generation with transformers and its key-value cache, as decode.py's peer: once for every line of input, with
one JSON object for each: the rate of decoding and the text."""
import argparse
import json
import os
import sys
import time

import torch
import transformers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
    model.generation_config.eos_token_id = None  # never ends early
    prompt = torch.tensor([[(i * i * 7919 + 13) % model.config.vocab_size for i in range(args.prompt)]] * args.batch)
    mask = torch.ones_like(prompt)

    def seconds(count):
        begin = time.perf_counter()
        text = model.generate(prompt, attention_mask=mask, max_new_tokens=count, do_sample=False, use_cache=True,
                              pad_token_id=0)
        return time.perf_counter() - begin, text[0, args.prompt:].tolist()

    with torch.inference_mode():
        for _ in sys.stdin:
            first = seconds(1)[0]  # the prompt, which is not part of decoding
            whole, text = seconds(args.new_tokens)
            print(json.dumps({"tokens_per_s": args.batch * (args.new_tokens - 1) / (whole - first), "text": text}),
                  flush=True)


if __name__ == "__main__":
    main()
