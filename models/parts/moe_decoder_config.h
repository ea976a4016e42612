#pragma once

#include "models/parts/decoder_config.h"
#include "models/parts/feed_forward.h"

#include <string>

namespace deepflow {

// A decoder whose layers have a mixture of experts in the place of an MLP; `ffn` is of each expert.
struct MoeDecoderConfig : DecoderConfig {
  int64_t experts = 8, expert_choices = 2;
  ExpertBalance balance{.loss = 0.01};

  void declare(OptionGroup& group) override;
  void fill_in(int64_t vocabulary_size, int64_t sequence) override;  // ffn 0: 7/2 of width, rounded up to 64
  std::optional<Problem> problem() const override;

 protected:
  void declare_ffn(OptionGroup& group) override;

  // What transformers calls the number of experts, and what it takes where a config.json leaves them out.
  struct HfExpertDefaults {
    std::string experts_key;
    int64_t experts, choices;
  };
  void read_hf_experts(const HfConfig& config, const HfExpertDefaults& defaults);
  nlohmann::json hf_experts(const std::string& experts_key) const;
};

// Options of the layers of experts as the shared keys say; families change what is special about them.
MoeOptions moe_options(const MoeDecoderConfig& config);

}  // namespace deepflow
