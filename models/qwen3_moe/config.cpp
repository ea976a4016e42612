#include "models/qwen3_moe/config.h"

#include "core/option.h"
#include "models/hf_config.h"

namespace deepflow {

void Qwen3MoeConfig::declare(OptionGroup& group) {
  MoeDecoderConfig::declare(group);
  group.add("normalise_weights", normalise_weights).help("the weights of a token's experts sum to 1");
  group.add("attention_bias", attention_bias).help("biases on queries, keys, values and the attention's output");
}

void Qwen3MoeConfig::read_hf(const HfConfig& config) {
  read_hf_decoder(config, {.layers = 24,
                           .width = 2048,
                           .heads = 32,
                           .kv_heads = 4,
                           .head_dim = 0,
                           .ffn = 768,
                           .vocabulary = 151936,
                           .max_positions = 32768,
                           .ffn_key = "moe_intermediate_size"});
  read_hf_experts(config, {.experts_key = config.has("num_local_experts") ? "num_local_experts" : "num_experts",
                           .experts = 128,
                           .choices = 8});
  dense_ffn = config.positive("intermediate_size", 6144);
  normalise_weights = config.boolean("norm_topk_prob", false);
  attention_bias = config.boolean("attention_bias", false);
  if (config.positive("decoder_sparse_step", 1) != 1 || config.has_items("mlp_only_layers"))
    config.fail("mlp_only_layers", "or decoder_sparse_step: layers without experts are not implemented");
  if (config.boolean("use_sliding_window", false)) config.fail("use_sliding_window", "true is not implemented");
}

nlohmann::json Qwen3MoeConfig::to_hf() const {
  nlohmann::json more = hf_experts("num_experts");
  more.update({{"intermediate_size", dense_ffn > 0 ? dense_ffn : ffn * expert_choices},
               {"moe_intermediate_size", ffn},
               {"norm_topk_prob", normalise_weights},
               {"decoder_sparse_step", 1},
               {"mlp_only_layers", nlohmann::json::array()},
               {"attention_bias", attention_bias},
               {"use_sliding_window", false}});
  return to_hf_decoder("Qwen3MoeForCausalLM", more);
}

}  // namespace deepflow
