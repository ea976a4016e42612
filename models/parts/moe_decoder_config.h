#pragma once

#include "kernels/ops/rope.h"
#include "models/config.h"
#include "models/parts/moe.h"

#include <string>

namespace deepflow {

// What the configurations of families with RMSNorm, rotary positions, grouped-query attention and a mixture of experts
// in every layer share. The head size is not tied to the width.
struct MoeDecoderConfig : ModelConfig {
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

  void declare(OptionGroup& group) override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;
  int64_t num_layers() const override { return layers; }
  void set_layers(int64_t count) override { layers = count; }
  std::optional<Problem> problem() const override;

 protected:
  // What transformers takes for a key that a config.json leaves out, and what it calls two of them.
  struct HfDefaults {
    int64_t layers, width, heads, kv_heads, experts, choices, ffn, vocabulary, max_positions;
    double norm_eps, rope_theta;
    std::string experts_key, ffn_key;
  };
  void read_hf_decoder(const HfConfig& config, const HfDefaults& defaults);
  // The shared keys, with those that a family adds.
  nlohmann::json to_hf_decoder(const std::string& architecture, const std::string& experts_key,
                               const std::string& ffn_key, const nlohmann::json& more) const;
};

}  // namespace deepflow
