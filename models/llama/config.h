#pragma once

#include "models/parts/decoder_config.h"

namespace deepflow {

// Touvron et al. 2023, Grattafiori et al. 2024: RMSNorm before each layer, rotary positions, grouped-query attention,
// SwiGLU.
struct LlamaConfig final : DecoderConfig {
  bool attention_bias = false, mlp_bias = false;

  std::string family() const override { return "llama"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<LlamaConfig>(*this); }
  void declare(OptionGroup& group) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
