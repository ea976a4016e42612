#include "models/qwen3/config.h"

namespace deepflow {

void Qwen3Config::declare(OptionGroup& group) {
  DecoderConfig::declare(group);
  group.add("attention_bias", attention_bias).help("biases on queries, keys, values and the attention's output");
  declare_window(group, window);
}

void Qwen3Config::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 32,
                           .width = 4096,
                           .heads = 32,
                           .kv_heads = 32,
                           .head_dim = 128,
                           .ffn = 22016,
                           .vocabulary = 151936,
                           .max_positions = 32768});
  attention_bias = config.boolean("attention_bias", false);
  window = read_hf_window(config, layers);
  check_hf_activation(config, "hidden_act", "silu", "swish");
}

nlohmann::json Qwen3Config::to_hf() const {
  nlohmann::json more = hf_window(window, layers);
  more["attention_bias"] = attention_bias;
  more["hidden_act"] = "silu";
  return to_hf_decoder("Qwen3ForCausalLM", more);
}

}  // namespace deepflow
