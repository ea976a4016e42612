#include "models/mixtral/config.h"
#include "models/parts/expert_names.h"
#include "models/parts/pre_norm_decoder.h"

namespace deepflow {
namespace {

// transformers' MixtralForCausalLM.
ForeignNames hugging_face_names(const MixtralConfig& c) {
  return moe_decoder_names({.layers = c.layers,
                            .experts = c.experts,
                            .tied_head = c.tie_embeddings,
                            .router_bias = c.balance.bias_rate > 0,
                            .of_layer = {{".input_layernorm", ".attention_norm"},
                                         {".self_attn.q_proj", ".attention.q"},
                                         {".self_attn.k_proj", ".attention.k"},
                                         {".self_attn.v_proj", ".attention.v"},
                                         {".self_attn.o_proj", ".attention.out"},
                                         {".post_attention_layernorm", ".moe_norm"}},
                            .called = {".block_sparse_moe", "w1", "w3", "w2"}});
}

}  // namespace

std::unique_ptr<CausalModel> MixtralConfig::build(Runtime& runtime, ParameterRegistry& registry,
                                                  Recompute recompute) const {
  const auto attention = [this](int layer) { return attention_options(*this, layer); };
  const auto feed_forward = [this](int) { return moe_options(*this); };
  PreNormDecoder<SelfAttention>::Options options{attention, feed_forward, hugging_face_names(*this)};
  return std::make_unique<PreNormDecoder<SelfAttention>>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
