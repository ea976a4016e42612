#include "models/parts/expert_names.h"
#include "models/parts/moe_decoder.h"
#include "models/qwen3_moe/config.h"

namespace deepflow {
namespace {

// transformers' Qwen3MoeForCausalLM.
ForeignNames hugging_face_names(const Qwen3MoeConfig& c) {
  MoeDecoderNames names{.layers = c.layers,
                        .experts = c.experts,
                        .tied_head = c.tie_embeddings,
                        .router_bias = c.balance.bias_rate > 0,
                        .of_layer = {{".input_layernorm.weight", ".attention_norm.weight"},
                                     {".self_attn.q_proj.weight", ".attention.q.weight"},
                                     {".self_attn.k_proj.weight", ".attention.k.weight"},
                                     {".self_attn.v_proj.weight", ".attention.v.weight"},
                                     {".self_attn.q_norm.weight", ".attention.q_norm.weight"},
                                     {".self_attn.k_norm.weight", ".attention.k_norm.weight"},
                                     {".self_attn.o_proj.weight", ".attention.out.weight"},
                                     {".post_attention_layernorm.weight", ".moe_norm.weight"}},
                        .called = {".mlp", "gate_proj", "up_proj", "down_proj"}};
  if (c.attention_bias)
    for (const auto& [theirs, ours] :
         std::vector<std::pair<std::string, std::string>>{{".self_attn.q_proj", ".attention.q"},
                                                          {".self_attn.k_proj", ".attention.k"},
                                                          {".self_attn.v_proj", ".attention.v"},
                                                          {".self_attn.o_proj", ".attention.out"}})
      names.of_layer.emplace_back(theirs + ".bias", ours + ".bias");
  return moe_decoder_names(names);
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
  MoeDecoder::Options options{attention, moe_options(*this), hugging_face_names(*this)};
  options.moe.routing.normalise = normalise_weights;
  return std::make_unique<MoeDecoder>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
