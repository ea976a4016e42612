#pragma once

#include "models/parts/latent_decoder_config.h"

namespace deepflow {

// DeepSeek-AI, "DeepSeek-V2", 2024: latent attention, and experts whose softmax scores are their weights as they are,
// from the groups that hold the best ones. models/deepseek_v2/ has configurations of public models.
struct DeepseekV2Config final : LatentDecoderConfig {
  DeepseekV2Config() { norm_eps = 1e-6f, experts = 64, expert_choices = 6, shared_experts = 2, balance.loss = 0.003; }
  std::string family() const override { return "deepseek_v2"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<DeepseekV2Config>(*this); }
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
