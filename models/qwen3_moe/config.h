#pragma once

#include "models/parts/moe_decoder_config.h"

namespace deepflow {

// Yang et al., "Qwen3 Technical Report", 2025: queries and keys normed head by head, and in every layer a mixture of
// many small experts. models/qwen3_moe/qwen3_30b_a3b.json is the configuration of a public model.
struct Qwen3MoeConfig final : MoeDecoderConfig {
  bool normalise_weights = true;  // those of a token's experts sum to 1
  bool attention_bias = false;
  int64_t dense_ffn = 0;  // of a layer without experts, of which there are none: config.json names it all the same

  Qwen3MoeConfig() { rope_theta = 1e6, norm_eps = 1e-6f, experts = 128, expert_choices = 8; }
  std::string family() const override { return "qwen3_moe"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<Qwen3MoeConfig>(*this); }
  void declare(OptionGroup& group) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
