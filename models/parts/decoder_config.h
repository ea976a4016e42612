#pragma once

#include "kernels/ops/rope.h"
#include "models/config.h"
#include "models/parts/rope_scaling.h"

#include <optional>
#include <string>

namespace deepflow {

// What the configurations of families with RMSNorm, rotary positions, grouped-query attention and a gated MLP share.
// The head size is not tied to the width.
struct DecoderConfig : ModelConfig {
  int64_t layers = 0, width = 0, heads = 0;
  int64_t kv_heads = 0;       // 0: heads
  int64_t head_dim = 0;       // 0: width / heads
  int64_t ffn = 0;            // 0: 8/3 of width, rounded up to 64
  int64_t vocabulary = 0;     // 0: the tokenizer's
  int64_t max_positions = 0;  // 0: the data's sequence length
  bool tie_embeddings = false;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  float norm_eps = 1e-5f;
  float init_std = 0.02f;  // divided by sqrt(2 * layers) where a layer's output joins the residual stream

  void declare(OptionGroup& group) override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;
  int64_t num_layers() const override { return layers; }
  void set_layers(int64_t count) override { layers = count; }
  std::optional<Problem> problem() const override;

  virtual int64_t rotary_columns() const { return head_dim; }  // of a head

 protected:
  // Keys that not all of these families have, or not in the same words.
  virtual void declare_heads(OptionGroup& group);
  virtual void declare_ffn(OptionGroup& group);

  // What transformers takes for a key that a config.json leaves out; kv_heads 0: heads, head_dim 0: width / heads.
  struct HfDefaults {
    int64_t layers, width, heads, kv_heads, head_dim, ffn, vocabulary, max_positions;
    bool tie_embeddings = false;
    double norm_eps = 1e-6, rope_theta = 1e4;
    std::string ffn_key = "intermediate_size";
  };
  void read_hf_decoder(const HfConfig& config, const HfDefaults& defaults);
  // The shared keys, with those that a family adds or has otherwise in `more`.
  nlohmann::json to_hf_decoder(const std::string& architecture, const nlohmann::json& more) const;
};

RopeOptions rope_options(const DecoderConfig& config);

// DataError unless the config.json's activation in `key` is one of the two names of the one that is implemented.
void check_hf_activation(const HfConfig& config, const std::string& key, const std::string& name,
                         const std::string& other_name);

}  // namespace deepflow
