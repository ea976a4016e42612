#pragma once

#include "models/parts/decoder_config.h"

namespace deepflow {

// Gemma team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024: norms before and behind each layer,
// sliding windows in every other layer, soft caps on scores and logits, GeGLU, a tied embedding scaled by sqrt(width).
struct Gemma2Config final : DecoderConfig {
  int64_t sliding_window = 4096;      // of layers 0, 2, 4 ...; 0: none
  int64_t query_pre_attn_scalar = 0;  // scores are divided by its root; 0: head_dim
  double attention_softcap = 50;      // of scores; 0: none
  double logit_softcap = 30;          // 0: none

  Gemma2Config() { tie_embeddings = true, norm_eps = 1e-6f; }
  std::string family() const override { return "gemma2"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<Gemma2Config>(*this); }
  void declare(OptionGroup& group) override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;
  void read_hf(const HfConfig& config) override;
  nlohmann::json to_hf() const override;
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry, Recompute recompute) const override;

  int64_t window_of(int64_t layer) const { return layer % 2 == 0 ? sliding_window : 0; }
};

}  // namespace deepflow
