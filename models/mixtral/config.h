#pragma once

#include "kernels/ops/rope.h"
#include "models/config.h"
#include "models/parts/moe.h"

namespace deepflow {

// Jiang et al. 2024: a Llama with a mixture of SwiGLU experts in every layer, weights of a token's experts normalised.
// models/mixtral/mixtral_8x7b.json is the configuration of the public model.
struct MixtralConfig final : ModelConfig {
  int64_t layers = 0, width = 0, heads = 0;
  int64_t kv_heads = 0;  // 0: heads
  int64_t head_dim = 0;  // 0: width / heads
  int64_t experts = 8, expert_choices = 2;
  int64_t ffn = 0;            // of each expert; 0: 7/2 of width, rounded up to 64
  int64_t vocabulary = 0;     // 0: the tokenizer's
  int64_t max_positions = 0;  // 0: the data's sequence length
  bool tie_embeddings = false;
  double rope_theta = 1e6;
  float norm_eps = 1e-5f;
  float init_std = 0.02f;  // divided by sqrt(2 * layers) where a layer's output joins the residual stream
  ExpertBalance balance{.loss = 0.01};

  std::string family() const override { return "mixtral"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<MixtralConfig>(*this); }
  void declare(OptionGroup& group) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;
  int64_t num_layers() const override { return layers; }
  void set_layers(int64_t count) override { layers = count; }
  std::optional<Problem> problem() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;
};

}  // namespace deepflow
