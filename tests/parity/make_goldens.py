#!/usr/bin/env python3
"""Writes tests/parity/goldens: tiny models with random bf16 weights, and what transformers makes of them in f32.

Each folder is a Hugging Face folder (config.json, model.safetensors) with tokens.txt (one sequence a line) and
expected.safetensors: logits, loss and the gradient of every parameter. Run it again when a case is added; folders that
are there stay as they are:
    python tests/parity/make_goldens.py
"""
import copy
import pathlib
import zlib

import expert_names
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM,
                          Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)
from transformers.modeling_layers import MtpLayer
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RMSNorm

BATCH, SEQUENCE, VOCABULARY = 2, 17, 97
NO_ENDS = dict(bos_token_id=None, eos_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=8, beta_fast=4.0,
            beta_slow=1.0, mscale=1.0, mscale_all_dim=0.707)
CASES = {
    "gpt2": GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_embd=16, n_head=2, n_positions=32, vocab_size=VOCABULARY, resid_pdrop=0.0,
                   embd_pdrop=0.0, attn_pdrop=0.0, **NO_ENDS)),
    # Grouped heads wider than the residual stream, head of its own.
    "llama": LlamaForCausalLM(
        LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
                    intermediate_size=40, max_position_embeddings=32, vocab_size=VOCABULARY, **NO_ENDS)),
    # Biases, tied head, Llama-3 frequencies.
    "llama_scaled": LlamaForCausalLM(
        LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=1,
                    intermediate_size=24, max_position_embeddings=128, vocab_size=VOCABULARY, attention_bias=True,
                    mlp_bias=True, tie_word_embeddings=True, rope_parameters=LLAMA3, **NO_ENDS)),
    # Two of five experts.
    "mixtral": MixtralForCausalLM(
        MixtralConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2,
                      intermediate_size=24, num_local_experts=5, num_experts_per_tok=2, max_position_embeddings=32,
                      vocab_size=VOCABULARY, **NO_ENDS)),
    # A window in the upper layer.
    "qwen2": Qwen2ForCausalLM(
        Qwen2Config(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2,
                    intermediate_size=24, max_position_embeddings=32, vocab_size=VOCABULARY, use_sliding_window=True,
                    sliding_window=5, max_window_layers=1, tie_word_embeddings=True, **NO_ENDS)),
    "qwen3": Qwen3ForCausalLM(
        Qwen3Config(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
                    intermediate_size=24, max_position_embeddings=32, vocab_size=VOCABULARY, **NO_ENDS)),
    # Caps that scores and logits reach.
    "gemma2": Gemma2ForCausalLM(
        Gemma2Config(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
                     intermediate_size=24, max_position_embeddings=32, vocab_size=VOCABULARY, sliding_window=5,
                     query_pre_attn_scalar=9, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                     pad_token_id=None, **NO_ENDS)),
    # Three of six experts whose weights are not normalised, normed queries and keys, biases.
    "qwen3_moe": Qwen3MoeForCausalLM(
        Qwen3MoeConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
                       moe_intermediate_size=12, num_experts=6, num_experts_per_tok=3, attention_bias=True,
                       max_position_embeddings=32, vocab_size=VOCABULARY, **NO_ENDS)),
    # Queries straight from the residual stream, two of the four experts of two out of three groups, two shared ones.
    "deepseek_v2": DeepseekV2ForCausalLM(
        DeepseekV2Config(num_hidden_layers=3, hidden_size=16, num_attention_heads=4,
                         num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=12,
                         qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=8, intermediate_size=24,
                         moe_intermediate_size=8, n_routed_experts=6, n_shared_experts=2, num_experts_per_tok=2,
                         n_group=3, topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=1.5,
                         first_k_dense_replace=1, max_position_embeddings=32, vocab_size=VOCABULARY, **NO_ENDS)),
    # Latent queries, values wider than keys, biases, YaRN, and a router's bias that chooses other experts.
    "deepseek_v3": DeepseekV3ForCausalLM(
        DeepseekV3Config(num_hidden_layers=3, hidden_size=16, num_attention_heads=4,
                         num_key_value_heads=4, q_lora_rank=10, kv_lora_rank=12,
                         qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=10, intermediate_size=24,
                         moe_intermediate_size=8, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
                         n_group=4, topk_group=2, routed_scaling_factor=2.5, first_k_dense_replace=1,
                         attention_bias=True, max_position_embeddings=32, vocab_size=VOCABULARY, rope_parameters=YARN,
                         num_nextn_predict_layers=0, **NO_ENDS)),
    # With the module of multi-token prediction: gradients are those of both losses.
    "deepseek_v3_mtp": DeepseekV3ForCausalLM(
        DeepseekV3Config(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, num_key_value_heads=4,
                         q_lora_rank=10, kv_lora_rank=12, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=6,
                         intermediate_size=24, moe_intermediate_size=8, n_routed_experts=4, n_shared_experts=1,
                         num_experts_per_tok=2,
                         n_group=1, topk_group=1, first_k_dense_replace=1, max_position_embeddings=32,
                         vocab_size=VOCABULARY, num_nextn_predict_layers=1, **NO_ENDS)),
}
MTP_WEIGHT = 0.3


def correction_biases(model):
    return {name: b for name, b in model.named_buffers() if name.endswith("e_score_correction_bias")}


def randomise(model, generator):
    """Weights far from their initial symmetry, so that nothing is close to zero or one by itself; exact in bf16."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator) * 0.25
            gain = "norm" in name or ".ln_" in name and "weight" in name
            p.copy_((noise + (1.0 if gain and model.config.model_type != "gemma2" else 0.0)).bfloat16())
        for b in correction_biases(model).values():
            b.copy_((torch.randn(b.shape, generator=generator) * 0.25).bfloat16())


def make_module(model):
    """transformers' own module of multi-token prediction, beside a model that has none of it in memory."""
    return MtpLayer(model.config, DeepseekV3DecoderLayer, DeepseekV3RMSNorm, model.config.num_hidden_layers)


def module_loss(model, module, ids):
    hidden = model.model(ids).last_hidden_state[:, :-1]
    rows = hidden.shape[1]
    positions = torch.arange(rows)[None]
    mask = torch.full((rows, rows), float("-inf")).triu(1)[None, None]
    ahead = module(model.model.embed_tokens(ids[:, 1:]), hidden, model.model.rotary_emb(hidden, positions), mask,
                   positions, None)
    logits = model.lm_head(ahead)[:, :-1]
    targets = ids[:, 2:]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return losses / (ids.shape[0] * (ids.shape[1] - 1))


def public_names(tensors, layer):
    """Of the module, as the published files of DeepSeek-V3 have them."""
    names = {"post_norm.": "shared_head.norm.", "mtp_block.": ""}
    out = {}
    for name, t in tensors.items():
        for theirs, public in names.items():
            name = public + name[len(theirs):] if name.startswith(theirs) else name
        out[f"model.layers.{layer}.{name}"] = t
    return out


def main():
    root = pathlib.Path(__file__).parent / "goldens"
    torch.use_deterministic_algorithms(True)
    for name, model in CASES.items():
        folder = root / name
        if folder.exists():
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        randomise(model, generator)
        copy.deepcopy(model).bfloat16().save_pretrained(folder)  # a copy, because buffers lose precision as well
        (folder / "generation_config.json").unlink(missing_ok=True)
        ids = torch.randint(0, VOCABULARY, (BATCH, SEQUENCE), generator=generator)
        (folder / "tokens.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in ids.tolist()))
        output = model(input_ids=ids, labels=ids)
        output.loss.backward()
        parameters = dict(model.named_parameters())
        if getattr(model.config, "num_nextn_predict_layers", 0) > 0:
            module = make_module(model)
            randomise(module, generator)
            (MTP_WEIGHT * module_loss(model, module, ids)).backward()
            layer = model.config.num_hidden_layers
            parameters |= public_names(dict(module.named_parameters()), layer)
            saved = public_names(dict(module.named_parameters()) | correction_biases(module), layer)
            saved = {n: t.detach().bfloat16().clone() for n, t in expert_names.as_in_files(model, saved).items()}
            whole = load_file(folder / "model.safetensors") | saved
            save_file(whole, folder / "model.safetensors", {"format": "pt"})
        expected = {"logits": output.logits.detach(), "loss": output.loss.detach()}
        expected |= expert_names.as_in_files(model, {n: p.grad for n, p in parameters.items()})
        save_file({n: t.contiguous() for n, t in expected.items()}, folder / "expected.safetensors")
        print(f"{name}: loss {output.loss.item():.6f}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
