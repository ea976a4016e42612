#include "models/mixtral/config.h"

#include "models/hf_config.h"

namespace deepflow {

void MixtralConfig::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 32,
                           .width = 4096,
                           .heads = 32,
                           .kv_heads = 8,
                           .head_dim = 0,
                           .ffn = 14336,
                           .vocabulary = 32000,
                           .max_positions = 4096 * 32,
                           .norm_eps = 1e-5,
                           .rope_theta = 1e6});
  read_hf_experts(config, {.experts_key = "num_local_experts", .experts = 8, .choices = 2});
  if (config.has("sliding_window")) config.fail("sliding_window", "is not implemented for Mixtral; null is");
}

nlohmann::json MixtralConfig::to_hf() const {
  return to_hf_decoder("MixtralForCausalLM", hf_experts("num_local_experts"));
}

}  // namespace deepflow
