#pragma once

#include "kernels/ops/activation.h"
#include "models/config.h"

namespace deepflow {

// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019: learned positions, LayerNorm before each
// layer, biases everywhere, GELU in its tanh form, tied head.
struct Gpt2Config final : ModelConfig {
  int64_t layers = 0, width = 0, heads = 0;
  int64_t ffn = 0;            // 0: 4 * width
  int64_t vocabulary = 0;     // 0: the tokenizer's
  int64_t max_positions = 0;  // 0: the data's sequence length
  bool tie_embeddings = true;
  GeluKind gelu = GeluKind::kTanh;
  float norm_eps = 1e-5f;
  float dropout = 0;       // of the embedding and of what each layer adds to the residual stream
  float init_std = 0.02f;  // divided by sqrt(2 * layers) where a layer's output joins the residual stream

  std::string family() const override { return "gpt2"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<Gpt2Config>(*this); }
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
