#include "models/llama/config.h"
#include "models/llama/name_map.h"
#include "models/parts/pre_norm_decoder.h"

namespace deepflow {

std::unique_ptr<CausalModel> LlamaConfig::build(Runtime& runtime, ParameterRegistry& registry,
                                                Recompute recompute) const {
  const auto attention = [this](int layer) {
    SelfAttention::Options o = attention_options(*this, layer);
    o.qkv_bias = o.out_bias = attention_bias;
    return o;
  };
  MlpOptions mlp = mlp_options(*this);
  mlp.bias = mlp_bias;
  PreNormDecoder<SelfAttention>::Options options{attention, [mlp](int) { return mlp; },
                                                 llama_hugging_face_names(*this)};
  return std::make_unique<PreNormDecoder<SelfAttention>>(*this, std::move(options), runtime, registry, recompute);
}

}  // namespace deepflow
