#include "models/parts/expert_names.h"
#include "models/parts/pre_norm_decoder.h"
#include "models/qwen3_moe/config.h"

namespace deepflow {
namespace {

// transformers' Qwen3MoeForCausalLM.
ForeignNames hugging_face_names(const Qwen3MoeConfig& c) {
  return moe_decoder_names({.layers = c.layers,
                            .experts = c.experts,
                            .tied_head = c.tie_embeddings,
                            .router_bias = c.balance.bias_rate > 0,
                            .of_layer = {{".input_layernorm", ".attention_norm"},
                                         {".self_attn.q_proj", ".attention.q", c.attention_bias},
                                         {".self_attn.k_proj", ".attention.k", c.attention_bias},
                                         {".self_attn.v_proj", ".attention.v", c.attention_bias},
                                         {".self_attn.q_norm", ".attention.q_norm"},
                                         {".self_attn.k_norm", ".attention.k_norm"},
                                         {".self_attn.o_proj", ".attention.out", c.attention_bias},
                                         {".post_attention_layernorm", ".moe_norm"}},
                            .called = {".mlp", "gate_proj", "up_proj", "down_proj"}});
}

}  // namespace

std::unique_ptr<CausalModel> Qwen3MoeConfig::build(Runtime& runtime, ParameterRegistry& registry,
                                                   Recompute recompute) const {
  const auto attention = [this](int layer) {
    SelfAttention::Options o = attention_options(*this, layer);
    o.qkv_bias = o.out_bias = attention_bias;
    o.qk_norm_eps = norm_eps;
    return o;
  };
  MoeOptions moe = moe_options(*this);
  moe.routing.normalise = normalise_weights;
  PreNormDecoder<SelfAttention>::Options options{attention, [moe](int) { return moe; }, hugging_face_names(*this)};
  return std::make_unique<PreNormDecoder<SelfAttention>>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
