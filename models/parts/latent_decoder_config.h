#pragma once

#include "models/parts/latent_attention.h"
#include "models/parts/moe_decoder_config.h"
#include "models/parts/pre_norm_decoder.h"

namespace deepflow {

// What DeepSeek-V2 and its successors share: multi-head latent attention, first layers without experts, then layers of
// many small experts and one that all tokens go to.
struct LatentDecoderConfig : MoeDecoderConfig {
  int64_t query_rank = 0;                                  // 0: queries are made of the residual stream
  int64_t latent_rank = 512;                               //
  int64_t nope_dim = 128, rope_dim = 64, value_dim = 128;  // columns of a head
  bool attention_bias = false;
  int64_t dense_layers = 1;    // first layers without experts
  int64_t dense_ffn = 0;       // of those; 0: as much as the experts of a token
  int64_t shared_experts = 1;  // experts that all tokens go to, as one of that many times the columns
  int64_t router_groups = 1, router_top_groups = 1;
  float router_scale = 1;
  float mtp_weight = 0;  // of the loss of multi-token prediction, where a family has the module; 0: there is none

  void declare(OptionGroup& group) override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;
  std::optional<Problem> problem() const override;
  int64_t rotary_columns() const override { return rope_dim; }

 protected:
  using Model = PreNormDecoder<LatentAttention>;

  void declare_heads(OptionGroup& group) override;

  // What transformers takes for the keys of this part that a config.json leaves out.
  struct HfLatentDefaults {
    int64_t query_rank, dense_layers, shared_experts, groups, top_groups;
    double router_scale;
  };
  void read_hf_latent(const HfConfig& config, const HfLatentDefaults& defaults);
  nlohmann::json hf_latent() const;

  Model::Options model_options(const Routing& routing, bool router_bias) const;
  ForeignNames hugging_face_names(bool router_bias) const;  // transformers' DeepseekV2 and DeepseekV3ForCausalLM
};

LatentAttention::Options latent_attention_options(const LatentDecoderConfig& config, int layer);

}  // namespace deepflow
