#pragma once

#include "kernels/ops/rope.h"
#include "models/config.h"

#include <optional>

namespace deepflow {

// How positions beyond those of pretraining are reached.
struct RopeScaling {
  enum class Kind : uint8_t { kLlama3, kLinear };
  Kind kind = Kind::kLlama3;
  double factor = 8;
  double low_freq_factor = 1, high_freq_factor = 4;  // kLlama3
  int64_t original_max_positions = 8192;             // kLlama3
};
void declare(OptionGroup& group, RopeScaling& scaling);

// Touvron et al. 2023, Grattafiori et al. 2024: RMSNorm before each layer, rotary positions, grouped-query attention,
// SwiGLU. The head size is not tied to the width.
struct LlamaConfig final : ModelConfig {
  int64_t layers = 0, width = 0, heads = 0;
  int64_t kv_heads = 0;       // 0: heads
  int64_t head_dim = 0;       // 0: width / heads
  int64_t ffn = 0;            // 0: 8/3 of width, rounded up to 64
  int64_t vocabulary = 0;     // 0: the tokenizer's
  int64_t max_positions = 0;  // 0: the data's sequence length
  bool tie_embeddings = false;
  bool attention_bias = false, mlp_bias = false;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  float norm_eps = 1e-5f;
  float init_std = 0.02f;  // divided by sqrt(2 * layers) where a layer's output joins the residual stream

  std::string family() const override { return "llama"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<LlamaConfig>(*this); }
  void declare(OptionGroup& group) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;
  int64_t num_layers() const override { return layers; }
  void set_layers(int64_t count) override { layers = count; }
  std::optional<Problem> problem() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

RopeOptions rope_options(const LlamaConfig& config);

}  // namespace deepflow
