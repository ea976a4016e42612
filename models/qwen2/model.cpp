#include "models/parts/pre_norm_decoder.h"
#include "models/qwen2/config.h"
#include "models/qwen2/name_map.h"

namespace deepflow {

std::unique_ptr<CausalModel> Qwen2Config::build(Runtime& runtime, ParameterRegistry& registry,
                                                Recompute recompute) const {
  const auto attention = [this](int layer) {
    SelfAttention::Options o = attention_options(*this, layer);
    o.qkv_bias = true;
    o.window = window.of_layer(layer);
    return o;
  };
  PreNormDecoder<SelfAttention>::Options options{attention, [this](int) { return mlp_options(*this); },
                                                 qwen2_hugging_face_names(*this)};
  return std::make_unique<PreNormDecoder<SelfAttention>>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
