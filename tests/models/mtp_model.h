#pragma once

#include "models/llama/config.h"
#include "models/llama/name_map.h"
#include "models/parts/pre_norm_decoder.h"

#include <nlohmann/json.hpp>

#include <memory>
#include <string>

namespace deepflow::testing {

// A Llama with multi-token prediction; with experts, they are in all blocks but the first.
struct MtpConfig final : DecoderConfig {
  MtpOptions mtp;
  int64_t experts = 0, expert_choices = 2;
  ExpertBalance balance;

  std::string family() const override { return experts > 0 ? "mtp_moe" : "mtp"; }
  std::unique_ptr<ModelConfig> clone() const override { return std::make_unique<MtpConfig>(*this); }
  void read_hf(const HfConfig&) override {}
  nlohmann::json to_hf() const override { return {}; }
  std::unique_ptr<CausalModel> build(Runtime& runtime, ParameterRegistry& registry,
                                     Recompute recompute) const override {
    LlamaConfig named;
    static_cast<DecoderConfig&>(named) = *this;
    ++named.layers;  // the module's block is named as a layer
    ForeignNames names = llama_hugging_face_names(named);
    add_mtp_names(names, layers);
    const auto attention = [this](int layer) { return attention_options(*this, layer); };
    const auto feed_forward = [this](int layer) -> FeedForwardOptions {
      if (experts == 0 || layer == 0) return mlp_options(*this);
      return moe_options();
    };
    using Model = PreNormDecoder<SelfAttention>;
    return std::make_unique<Model>(*this, Model::Options{attention, feed_forward, std::move(names), mtp}, runtime,
                                   registry, recompute);
  }

 private:
  MoeOptions moe_options() const {
    MoeOptions moe;
    moe.width = width;
    moe.experts = experts;
    moe.ffn = ffn;
    moe.shared_ffn = ffn;
    moe.routing.choices = expert_choices;
    moe.balance = balance;
    moe.stddev = moe.out_stddev = init_std;
    return moe;
  }
};

}  // namespace deepflow::testing
