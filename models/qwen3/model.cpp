#include "models/parts/pre_norm_decoder.h"
#include "models/qwen3/config.h"
#include "models/qwen3/name_map.h"

namespace deepflow {

std::unique_ptr<CausalModel> Qwen3Config::build(Runtime& runtime, ParameterRegistry& registry,
                                                Recompute recompute) const {
  const auto attention = [this](int layer) {
    SelfAttention::Options o = attention_options(*this, layer);
    o.qkv_bias = o.out_bias = attention_bias;
    o.qk_norm_eps = norm_eps;
    o.window = window.of_layer(layer);
    return o;
  };
  PreNormDecoder<SelfAttention>::Options options{attention, [this](int) { return mlp_options(*this); },
                                                 qwen3_hugging_face_names(*this)};
  return std::make_unique<PreNormDecoder<SelfAttention>>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
