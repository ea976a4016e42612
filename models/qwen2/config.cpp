#include "models/qwen2/config.h"

namespace deepflow {

void Qwen2Config::declare(OptionGroup& group) {
  DecoderConfig::declare(group);
  declare_window(group, window);
}

void Qwen2Config::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 32,
                           .width = 4096,
                           .heads = 32,
                           .kv_heads = 32,
                           .head_dim = 0,
                           .ffn = 22016,
                           .vocabulary = 151936,
                           .max_positions = 32768});
  window = read_hf_window(config, layers);
  check_hf_activation(config, "hidden_act", "silu", "swish");
}

nlohmann::json Qwen2Config::to_hf() const {
  nlohmann::json more = hf_window(window, layers);
  more["hidden_act"] = "silu";
  return to_hf_decoder("Qwen2ForCausalLM", more);
}

}  // namespace deepflow
