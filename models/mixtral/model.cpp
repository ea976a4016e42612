#include "models/mixtral/config.h"
#include "models/parts/expert_names.h"
#include "models/parts/moe_decoder.h"

namespace deepflow {
namespace {

// transformers' MixtralForCausalLM.
ForeignNames hugging_face_names(const MixtralConfig& c) {
  return moe_decoder_names({.layers = c.layers,
                            .experts = c.experts,
                            .tied_head = c.tie_embeddings,
                            .router_bias = c.balance.bias_rate > 0,
                            .of_layer = {{".input_layernorm.weight", ".attention_norm.weight"},
                                         {".self_attn.q_proj.weight", ".attention.q.weight"},
                                         {".self_attn.k_proj.weight", ".attention.k.weight"},
                                         {".self_attn.v_proj.weight", ".attention.v.weight"},
                                         {".self_attn.o_proj.weight", ".attention.out.weight"},
                                         {".post_attention_layernorm.weight", ".moe_norm.weight"}},
                            .called = {".block_sparse_moe", "w1", "w3", "w2"}});
}

}  // namespace

std::unique_ptr<CausalModel> MixtralConfig::build(Runtime& runtime, ParameterRegistry& registry,
                                                  Recompute recompute) const {
  const auto attention = [this](int layer) { return attention_options(*this, layer); };
  MoeDecoder::Options options{attention, moe_options(*this), hugging_face_names(*this)};
  return std::make_unique<MoeDecoder>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
