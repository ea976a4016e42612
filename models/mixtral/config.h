#pragma once

#include "models/parts/moe_decoder_config.h"

namespace deepflow {

// Jiang et al. 2024: a Llama with a mixture of SwiGLU experts in every layer, weights of a token's experts normalised.
// models/mixtral/mixtral_8x7b.json is the configuration of the public model.
struct MixtralConfig final : MoeDecoderConfig {
  MixtralConfig() { rope_theta = 1e6; }
  std::string family() const override { return "mixtral"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<MixtralConfig>(*this); }
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
