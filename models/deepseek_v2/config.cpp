#include "models/deepseek_v2/config.h"

#include "models/hf_config.h"

namespace deepflow {

void DeepseekV2Config::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 32,
                           .width = 4096,
                           .heads = 32,
                           .kv_heads = 0,
                           .head_dim = 0,
                           .ffn = 1407,
                           .vocabulary = 102400,
                           .max_positions = 2048,
                           .ffn_key = "moe_intermediate_size"});
  read_hf_experts(config, {.experts_key = "n_routed_experts", .experts = 64, .choices = 0});
  read_hf_latent(
      config,
      {.query_rank = 1536, .dense_layers = 0, .shared_experts = 2, .groups = 1, .top_groups = 1, .router_scale = 1});
  if (config.text("topk_method", "greedy") == "greedy") router_groups = router_top_groups = 1;
  if (config.boolean("norm_topk_prob", false)) config.fail("norm_topk_prob", "true is not implemented");
  if (config.boolean("mlp_bias", false)) config.fail("mlp_bias", "true is not implemented");
  if (config.text("scoring_func", "softmax") != "softmax") config.fail("scoring_func", "only softmax is implemented");
}

nlohmann::json DeepseekV2Config::to_hf() const {
  nlohmann::json more = hf_latent();
  more.update({{"topk_method", router_groups > 1 ? "group_limited_greedy" : "greedy"},
               {"norm_topk_prob", false},
               {"scoring_func", "softmax"},
               {"mlp_bias", false}});
  return to_hf_decoder("DeepseekV2ForCausalLM", more);
}

}  // namespace deepflow
