#pragma once

#include "models/parts/decoder_config.h"
#include "models/parts/sliding_window.h"

namespace deepflow {

// Yang et al., "Qwen2 Technical Report", 2024: a Llama with biases on queries, keys and values, and in its upper layers
// perhaps a sliding window.
struct Qwen2Config final : DecoderConfig {
  SlidingWindow window;

  Qwen2Config() { rope_theta = 1e6, norm_eps = 1e-6f; }
  std::string family() const override { return "qwen2"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<Qwen2Config>(*this); }
  void declare(OptionGroup& group) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
