#pragma once

#include "models/parts/decoder_config.h"
#include "models/parts/sliding_window.h"

namespace deepflow {

// Yang et al., "Qwen3 Technical Report", 2025: a Llama whose queries and keys are normed, head by head, and whose heads
// are wider than width / heads; in its upper layers perhaps a sliding window.
struct Qwen3Config final : DecoderConfig {
  bool attention_bias = false;
  SlidingWindow window;

  Qwen3Config() { rope_theta = 1e6, norm_eps = 1e-6f; }
  std::string family() const override { return "qwen3"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<Qwen3Config>(*this); }
  void declare(OptionGroup& group) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
