#include "models/hf_config.h"

#include "models/mixtral/config.h"

namespace deepflow {

void MixtralConfig::read_hf(const HfConfig& config) {
  layers = config.positive("num_hidden_layers", 32);
  width = config.positive("hidden_size", 4096);
  heads = config.positive("num_attention_heads", 32);
  kv_heads = config.positive("num_key_value_heads", 8);
  head_dim = config.positive("head_dim", std::max<int64_t>(1, width / heads));
  experts = config.positive(config.has("num_experts") ? "num_experts" : "num_local_experts", 8);
  expert_choices = config.positive("num_experts_per_tok", 2);
  ffn = config.positive("intermediate_size", 14336);
  vocabulary = config.positive("vocab_size", 32000);
  max_positions = config.positive("max_position_embeddings", 4096 * 32);
  tie_embeddings = config.boolean("tie_word_embeddings", false);
  norm_eps = static_cast<float>(config.number("rms_norm_eps", 1e-5));
  rope_theta = plain_rope_theta(config, 1e6);
  balance.bias_rate = config.number("router_bias_rate", 0);
  if (!(balance.bias_rate >= 0)) config.fail("router_bias_rate", "is below 0");
  if (config.has("sliding_window")) config.fail("sliding_window", "is not implemented for Mixtral; null is");
  const std::string activation = config.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish")
    config.fail("hidden_act", "{} is not implemented; silu is", activation);
}

// transformers takes the balance loss of all layers at once, and sums the choices' shares where ours is their mean.
nlohmann::json MixtralConfig::to_hf() const {
  nlohmann::json json = {
      {"architectures", {"MixtralForCausalLM"}},
      {"model_type", "mixtral"},
      {"num_hidden_layers", layers},
      {"hidden_size", width},
      {"num_attention_heads", heads},
      {"num_key_value_heads", kv_heads},
      {"head_dim", head_dim},
      {"num_local_experts", experts},
      {"num_experts_per_tok", expert_choices},
      {"intermediate_size", ffn},
      {"vocab_size", vocabulary},
      {"max_position_embeddings", max_positions},
      {"tie_word_embeddings", tie_embeddings},
      {"rms_norm_eps", norm_eps},
      {"hidden_act", "silu"},
      {"sliding_window", nullptr},
      {"output_router_logits", false},
      {"router_aux_loss_coef", balance.loss * static_cast<double>(layers) / static_cast<double>(expert_choices)},
      {"initializer_range", init_std},
      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", rope_theta}}},
      {"rope_theta", rope_theta},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr}};
  if (balance.bias_rate > 0) json["router_bias_rate"] = balance.bias_rate;
  return json;
}

}  // namespace deepflow
