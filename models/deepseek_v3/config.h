#pragma once

#include "models/parts/latent_decoder_config.h"

namespace deepflow {

// DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024: latent attention, and experts with sigmoid scores whose load a
// bias keeps even. models/deepseek_v3/deepseek_v3.json is the configuration of the public model.
struct DeepseekV3Config final : LatentDecoderConfig {
  bool normalise_weights = true;  // those of a token's experts sum to router_scale

  DeepseekV3Config();
  void declare(OptionGroup& group) override;
  std::string family() const override { return "deepseek_v3"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<DeepseekV3Config>(*this); }
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  HfModule hf_module() const override;
  void leave_out_module() override { mtp_weight = 0; }
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
