#include "models/hf_config.h"

#include "models/llama/config.h"

namespace deepflow {
namespace {

// Version 5 of transformers keeps everything in rope_parameters, version 4 had rope_theta and rope_scaling.
void read_rope(const HfConfig& config, LlamaConfig& out) {
  out.rope_theta = config.number("rope_theta", 10000);
  out.rope_scaling.reset();
  const std::string key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return;
  const HfConfig rope = config.object(key);
  out.rope_theta = rope.number("rope_theta", out.rope_theta);
  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "default") return;
  RopeScaling scaling;
  scaling.factor = rope.number("factor", 0);
  if (!(scaling.factor >= 1)) rope.fail("factor", "needs to be at least 1, got {}", scaling.factor);
  if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor = rope.number("low_freq_factor", 1);
    scaling.high_freq_factor = rope.number("high_freq_factor", 4);
    scaling.original_max_positions = rope.positive("original_max_position_embeddings", out.max_positions);
    if (!(scaling.low_freq_factor > 0) || !(scaling.high_freq_factor > scaling.low_freq_factor))
      rope.fail("high_freq_factor", "needs to be above low_freq_factor, and both above 0");
  } else if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else {
    rope.fail("rope_type", "{} is not implemented; default, linear and llama3 are", type);
  }
  out.rope_scaling = scaling;
}

nlohmann::json rope_parameters(const LlamaConfig& config) {
  if (!config.rope_scaling) return {{"rope_type", "default"}};
  const RopeScaling& s = *config.rope_scaling;
  if (s.kind == RopeScaling::Kind::kLinear) return {{"rope_type", "linear"}, {"factor", s.factor}};
  return {{"rope_type", "llama3"},
          {"factor", s.factor},
          {"low_freq_factor", s.low_freq_factor},
          {"high_freq_factor", s.high_freq_factor},
          {"original_max_position_embeddings", s.original_max_positions}};
}

}  // namespace

void LlamaConfig::read_hf(const HfConfig& config) {
  layers = config.positive("num_hidden_layers", 32);
  width = config.positive("hidden_size", 4096);
  heads = config.positive("num_attention_heads", 32);
  kv_heads = config.positive("num_key_value_heads", heads);
  head_dim = config.positive("head_dim", std::max<int64_t>(1, width / heads));
  ffn = config.positive("intermediate_size", 11008);
  vocabulary = config.positive("vocab_size", 32000);
  max_positions = config.positive("max_position_embeddings", 2048);
  tie_embeddings = config.boolean("tie_word_embeddings", false);
  attention_bias = config.boolean("attention_bias", false);
  mlp_bias = config.boolean("mlp_bias", false);
  norm_eps = static_cast<float>(config.number("rms_norm_eps", 1e-6));
  read_rope(config, *this);
  const std::string activation = config.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish")
    config.fail("hidden_act", "{} is not implemented; silu is", activation);
}

nlohmann::json LlamaConfig::to_hf() const {
  nlohmann::json rope = rope_parameters(*this);
  nlohmann::json scaling = rope_scaling ? rope : nlohmann::json();
  rope["rope_theta"] = rope_theta;
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"num_hidden_layers", layers},
          {"hidden_size", width},
          {"num_attention_heads", heads},
          {"num_key_value_heads", kv_heads},
          {"head_dim", head_dim},
          {"intermediate_size", ffn},
          {"vocab_size", vocabulary},
          {"max_position_embeddings", max_positions},
          {"tie_word_embeddings", tie_embeddings},
          {"attention_bias", attention_bias},
          {"mlp_bias", mlp_bias},
          {"rms_norm_eps", norm_eps},
          {"hidden_act", "silu"},
          {"initializer_range", init_std},
          {"rope_parameters", std::move(rope)},
          {"rope_theta", rope_theta},
          {"rope_scaling", std::move(scaling)},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr}};
}

}  // namespace deepflow
