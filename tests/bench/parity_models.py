"""Random models of every family for parity.py: tiny ones with every variant, and ones of a moderate size."""
import copy
import dataclasses
import json
import pathlib

import torch
from transformers import (DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM,
                          Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0,
            beta_slow=1.0)


@dataclasses.dataclass
class Case:
    name: str
    model: torch.nn.Module
    batch: int = 2
    sequence: int = 17
    dtype: torch.dtype = torch.float32
    shard_size: str = "5GB"
    dialect: int = 5  # of config.json: that of transformers 4 or 5
    bare: bool = False  # names without "transformer." or "model."
    module: bool = False  # with one of multi-token prediction, which transformers leaves out of its model and folders

    def save(self, folder: pathlib.Path):
        dataclasses.replace(self, model=copy.deepcopy(self.model).to(self.dtype)).save_as_is(folder)

    def save_as_is(self, folder: pathlib.Path):
        body = self.model.base_model if self.bare else self.model
        body.save_pretrained(folder, max_shard_size=self.shard_size)
        if self.dialect == 4:
            path = folder / "config.json"
            config = json.loads(path.read_text())
            rope = config.pop("rope_parameters")
            config["rope_theta"] = rope.pop("rope_theta")
            config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
            config["torch_dtype"] = config.pop("dtype")
            path.write_text(json.dumps(config))


def randomise(model, dtype, scale):
    """Weights away from their initial symmetry; values that `dtype` holds exactly."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = "norm" in name or (".ln_" in name and name.endswith("weight"))
            center = 1.0 if gain and model.config.model_type != "gemma2" else 0.0
            p.copy_((torch.randn_like(p) * (0.1 if gain else scale) + center).to(dtype))
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                b.copy_((torch.randn_like(b) * 0.2).to(dtype))
    return model


def gpt2(layers=2, width=32, heads=4, positions=64, vocabulary=257, **more):
    return GPT2LMHeadModel(
        GPT2Config(n_layer=layers, n_embd=width, n_head=heads, n_positions=positions, vocab_size=vocabulary,
                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, **more))


def llama(layers=2, width=32, heads=4, kv_heads=4, ffn=56, positions=64, vocabulary=257, **more):
    return LlamaForCausalLM(
        LlamaConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
                    num_key_value_heads=kv_heads, intermediate_size=ffn, max_position_embeddings=positions,
                    vocab_size=vocabulary, bos_token_id=None, eos_token_id=None, **more))


def mixtral(layers=2, width=32, heads=4, kv_heads=2, ffn=24, experts=5, choices=2, positions=64, vocabulary=257,
            **more):
    return MixtralForCausalLM(
        MixtralConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
                      num_key_value_heads=kv_heads, intermediate_size=ffn, num_local_experts=experts,
                      num_experts_per_tok=choices, max_position_embeddings=positions, vocab_size=vocabulary,
                      bos_token_id=None, eos_token_id=None, **more))


DECODERS = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM),
            "gemma2": (Gemma2Config, Gemma2ForCausalLM)}


def decoder(family, layers=2, width=32, heads=4, kv_heads=2, ffn=56, positions=64, vocabulary=257, **more):
    config, model = DECODERS[family]
    return model(
        config(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, num_key_value_heads=kv_heads,
               intermediate_size=ffn, max_position_embeddings=positions, vocab_size=vocabulary, bos_token_id=None,
               eos_token_id=None, pad_token_id=None, **more))


def qwen3_moe(layers=2, width=32, heads=4, kv_heads=2, head_dim=12, ffn=16, experts=8, choices=3, positions=64,
              vocabulary=257, **more):
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
                       num_key_value_heads=kv_heads, head_dim=head_dim, moe_intermediate_size=ffn, num_experts=experts,
                       num_experts_per_tok=choices, max_position_embeddings=positions, vocab_size=vocabulary,
                       bos_token_id=None, eos_token_id=None, **more))


DEEPSEEK = {2: (DeepseekV2Config, DeepseekV2ForCausalLM), 3: (DeepseekV3Config, DeepseekV3ForCausalLM)}


def deepseek(version, layers=3, width=32, heads=4, ranks=(20, 16), dims=(12, 8, 10), ffn=(56, 16), experts=8, choices=3,
             groups=(4, 2), dense=1, shared=1, modules=0, positions=64, vocabulary=257, **more):
    """ranks: of latent queries and of latent keys and values; dims: columns of a head without positions, with, and of
    a value; ffn: of the dense layers, of an expert; groups: of experts, of those that a token may use."""
    config, model = DEEPSEEK[version]
    more |= dict(topk_method="group_limited_greedy") if version == 2 else dict(num_nextn_predict_layers=modules)
    return model(
        config(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads,
               num_key_value_heads=heads, q_lora_rank=ranks[0],
               kv_lora_rank=ranks[1], qk_nope_head_dim=dims[0], qk_rope_head_dim=dims[1], v_head_dim=dims[2],
               intermediate_size=ffn[0], moe_intermediate_size=ffn[1], n_routed_experts=experts,
               num_experts_per_tok=choices, n_group=groups[0], topk_group=groups[1], first_k_dense_replace=dense,
               n_shared_experts=shared, max_position_embeddings=positions, vocab_size=vocabulary, bos_token_id=None,
               eos_token_id=None, **more))


def cases():
    biased = dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    made = [
        Case("gpt2", gpt2()),
        Case("gpt2_untied_exact_gelu", gpt2(tie_word_embeddings=False, activation_function="gelu", n_inner=80)),
        Case("gpt2_bf16_shards_bare", gpt2(), dtype=torch.bfloat16, shard_size="20KB", bare=True),
        Case("gpt2_moderate", gpt2(6, 384, 6, 256, 5000), batch=2, sequence=256),
        Case("llama", llama()),
        Case("llama_gqa_head_dim", llama(kv_heads=2, head_dim=12), sequence=33),
        Case("llama_biases_tied_llama3", llama(kv_heads=1, positions=128, rope_parameters=LLAMA3, **biased), dialect=4),
        Case("llama_linear_f16", llama(rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.0)),
             dtype=torch.float16),
        Case("llama_v4_shards", llama(kv_heads=2), shard_size="20KB", dialect=4),
        Case("mixtral", mixtral()),
        Case("mixtral_one_of_nine", mixtral(experts=9, choices=1, head_dim=12, tie_word_embeddings=True), sequence=33),
        Case("mixtral_v4_shards", mixtral(kv_heads=4), shard_size="20KB", dialect=4),
        Case("qwen3_moe", qwen3_moe(norm_topk_prob=True)),
        Case("qwen3_moe_biases_tied", qwen3_moe(norm_topk_prob=False, attention_bias=True, tie_word_embeddings=True)),
        Case("qwen3_moe_bf16_shards", qwen3_moe(), dtype=torch.bfloat16, shard_size="20KB"),
        Case("mixtral_moderate", mixtral(4, 256, 8, 4, 256, 8, 2, 256, 5000), batch=2, sequence=256),
        Case("qwen2", decoder("qwen2"), dialect=4),
        Case("qwen2_windows_tied", decoder("qwen2", 3, use_sliding_window=True, sliding_window=6, max_window_layers=1,
                                           tie_word_embeddings=True), sequence=33),
        Case("qwen3", decoder("qwen3", head_dim=12), dialect=4),
        Case("qwen3_biases_windows", decoder("qwen3", 3, kv_heads=1, head_dim=16, attention_bias=True, sliding_window=9,
                                             use_sliding_window=True, max_window_layers=2), sequence=33),
        Case("qwen3_moderate", decoder("qwen3", 6, 384, 6, 2, 1024, 256, 5000, head_dim=128), batch=2, sequence=256),
        Case("gemma2", decoder("gemma2", head_dim=12, query_pre_attn_scalar=9, sliding_window=6,
                               attn_logit_softcapping=2.0, final_logit_softcapping=3.0), sequence=33),
        Case("gemma2_without_caps", decoder("gemma2", 3, kv_heads=4, head_dim=8, attn_logit_softcapping=None,
                                            final_logit_softcapping=None), dtype=torch.bfloat16, shard_size="20KB"),
        Case("gemma2_moderate", decoder("gemma2", 6, 384, 6, 2, 1024, 256, 5000, head_dim=64, query_pre_attn_scalar=64,
                                        sliding_window=100), batch=2, sequence=256),
        Case("deepseek_v2", deepseek(2)),
        Case("deepseek_v2_lite_yarn", deepseek(2, ranks=(None, 16), shared=2, routed_scaling_factor=1.5,
                                               rope_parameters=dict(YARN, mscale=0.707, mscale_all_dim=0.707)),
             sequence=33),
        Case("deepseek_v2_bf16_shards_v4", deepseek(2, attention_bias=True), dtype=torch.bfloat16, shard_size="20KB",
             dialect=4),
        Case("deepseek_v3", deepseek(3)),
        Case("deepseek_v3_module", deepseek(3, modules=1), module=True),
        Case("deepseek_v3_biases_yarn", deepseek(3, 4, dense=2, attention_bias=True, rope_parameters=YARN,
                                                 tie_word_embeddings=True), sequence=33, dialect=4),
        Case("deepseek_v3_moderate", deepseek(3, 4, 256, 8, (96, 64), (32, 16, 32), (768, 128), 16, 4, (4, 2), 1, 1,
                                              0, 256, 5000), batch=2, sequence=256),
        Case("llama_moderate", llama(6, 384, 6, 2, 1024, 256, 5000, tie_word_embeddings=True), batch=2, sequence=256),
    ]
    for case in made:
        randomise(case.model, case.dtype, 0.04 if "moderate" in case.name else 0.2)
    return made
