#include "models/llama/config.h"

namespace deepflow {

void LlamaConfig::declare(OptionGroup& group) {
  DecoderConfig::declare(group);
  group.add("attention_bias", attention_bias).help("biases on queries, keys, values and the attention's output");
  group.add("mlp_bias", mlp_bias).help("biases inside the MLP");
}

void LlamaConfig::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 32,
                           .width = 4096,
                           .heads = 32,
                           .kv_heads = 0,
                           .head_dim = 0,
                           .ffn = 11008,
                           .vocabulary = 32000,
                           .max_positions = 2048});
  attention_bias = config.boolean("attention_bias", false);
  mlp_bias = config.boolean("mlp_bias", false);
  check_hf_activation(config, "hidden_act", "silu", "swish");
}

nlohmann::json LlamaConfig::to_hf() const {
  return to_hf_decoder("LlamaForCausalLM",
                       {{"attention_bias", attention_bias}, {"mlp_bias", mlp_bias}, {"hidden_act", "silu"}});
}

}  // namespace deepflow
