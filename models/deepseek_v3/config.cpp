#include "models/deepseek_v3/config.h"

#include "models/hf_config.h"

namespace deepflow {
namespace {

constexpr float kMtpWeight = 0.3f;  // as the published model began its training (section 4.2)

}  // namespace

DeepseekV3Config::DeepseekV3Config() {
  norm_eps = 1e-6f;
  experts = 256, expert_choices = 8;
  router_scale = 2.5;
  balance = {.loss = 1e-4, .bias_rate = 1e-3};
  mtp_weight = kMtpWeight;
}

void DeepseekV3Config::declare(OptionGroup& group) {
  LatentDecoderConfig::declare(group);
  group.add("normalise_weights", normalise_weights).help("the weights of a token's experts sum to router_scale");
  group.add("mtp_weight", mtp_weight)
      .help("of the loss of the module that predicts the token after the next one; 0: there is no module")
      .range(0, 1000)
      .source("DeepSeek-V3, section 2.2");
}

void DeepseekV3Config::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 61,
                           .width = 7168,
                           .heads = 128,
                           .kv_heads = 0,
                           .head_dim = 0,
                           .ffn = 2048,
                           .vocabulary = 129280,
                           .max_positions = 4096,
                           .ffn_key = "moe_intermediate_size"});
  const double rate = balance.bias_rate;
  read_hf_experts(config, {.experts_key = "n_routed_experts", .experts = 256, .choices = 8});
  if (!config.has("router_bias_rate")) balance.bias_rate = rate;
  read_hf_latent(
      config,
      {.query_rank = 1536, .dense_layers = 3, .shared_experts = 1, .groups = 8, .top_groups = 4, .router_scale = 2.5});
  normalise_weights = config.boolean("norm_topk_prob", true);
  const int64_t modules = config.whole("num_nextn_predict_layers", 1);
  if (modules > 1) config.fail("num_nextn_predict_layers", "{} are not implemented; 0 and 1 are", modules);
  mtp_weight = modules > 0 ? kMtpWeight : 0;
  if (!config.boolean("rope_interleave", true)) config.fail("rope_interleave", "false is not implemented");
  if (config.text("scoring_func", "sigmoid") != "sigmoid") config.fail("scoring_func", "only sigmoid is implemented");
}

nlohmann::json DeepseekV3Config::to_hf() const {
  nlohmann::json more = hf_latent();
  more.update({{"topk_method", "noaux_tc"},
               {"norm_topk_prob", normalise_weights},
               {"scoring_func", "sigmoid"},
               {"num_nextn_predict_layers", mtp_weight > 0 ? 1 : 0},
               {"rope_interleave", true}});
  return to_hf_decoder("DeepseekV3ForCausalLM", more);
}

ModelConfig::HfModule DeepseekV3Config::hf_module() const {
  constexpr int64_t kPublishedLayers =
      61;  // _keys_to_ignore_on_load_unexpected of transformers' modeling_deepseek_v3.py
  if (mtp_weight <= 0) return HfModule::kNone;
  return layers == kPublishedLayers ? HfModule::kPassedOver : HfModule::kUnexpected;
}

}  // namespace deepflow
