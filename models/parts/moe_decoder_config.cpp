#include "models/parts/moe_decoder_config.h"

#include "core/option.h"
#include "models/extents.h"
#include "models/hf_config.h"

#include <algorithm>

namespace deepflow {

void MoeDecoderConfig::declare(OptionGroup& group) {
  group.add("layers", layers).help("transformer blocks; 0: as in init_from").range(0, kMostLayers);
  group.add("width", width).help("columns of the residual stream; 0: as in init_from").at_least(0);
  group.add("heads", heads).help("query heads; 0: as in init_from").at_least(0);
  group.add("kv_heads", kv_heads)
      .help("key and value heads, a divisor of heads; 0: as many as heads")
      .at_least(0)
      .source("Ainslie et al. 2023");
  group.add("head_dim", head_dim).help("columns of one head, even; 0: width / heads").at_least(0);
  group.add("experts", experts).help("experts of every layer").range(1, kMostExperts);
  group.add("expert_choices", expert_choices).help("experts that a token goes to").range(1, kMostExpertChoices);
  group.add("ffn", ffn).help("columns inside each expert; 0: 7/2 of width, rounded up to 64").at_least(0);
  group.add("vocabulary", vocabulary).help("rows of the embedding; 0: the tokenizer's size").unit("tokens").at_least(0);
  group.add("max_positions", max_positions)
      .help("longest sequence; 0: the data's sequence length")
      .unit("tokens")
      .at_least(0);
  group.add("tie_embeddings", tie_embeddings).help("the head reads the embedding's matrix").source("Press & Wolf 2017");
  group.add("rope_theta", rope_theta).help("base of the rotary wavelengths").above(0).source("Su et al. 2021");
  group.add("norm_eps", norm_eps).help("added to the mean square inside a norm").above(0).at_most(1);
  group.add("init_std", init_std)
      .help("standard deviation of initial weights; divided by sqrt(2 layers) where a layer joins the residual stream")
      .above(0)
      .source("Radford et al. 2019");
  deepflow::declare(group, balance);
}

void MoeDecoderConfig::fill_in(int64_t vocabulary_size, int64_t sequence) {
  constexpr int64_t kFfnMultiple = 64;
  if (vocabulary == 0) vocabulary = vocabulary_size;
  if (max_positions == 0) max_positions = sequence;
  if (kv_heads == 0) kv_heads = heads;
  if (head_dim == 0 && heads > 0) head_dim = width / heads;
  if (ffn == 0) ffn = (width * 7 / 2 + kFfnMultiple - 1) / kFfnMultiple * kFfnMultiple;
}

std::optional<ModelConfig::Problem> MoeDecoderConfig::problem() const {
  if (auto missing = missing_extent({{"layers", layers},
                                     {"width", width},
                                     {"heads", heads},
                                     {"kv_heads", kv_heads},
                                     {"head_dim", head_dim},
                                     {"ffn", ffn},
                                     {"vocabulary", vocabulary},
                                     {"max_positions", max_positions}}))
    return missing;
  if (auto many = too_many_layers(layers)) return many;
  if (head_dim % 2 != 0) return Problem{"head_dim", fmt::format("{} is odd; rotary positions turn pairs", head_dim)};
  return first_problem(expert_problem(experts, expert_choices),
                       does_not_divide("kv_heads", kv_heads, heads, "heads (model.heads)"));
}

void MoeDecoderConfig::read_hf_decoder(const HfConfig& config, const HfDefaults& d) {
  layers = config.positive("num_hidden_layers", d.layers);
  width = config.positive("hidden_size", d.width);
  heads = config.positive("num_attention_heads", d.heads);
  kv_heads = config.positive("num_key_value_heads", d.kv_heads);
  head_dim = config.positive("head_dim", std::max<int64_t>(1, width / heads));
  experts = config.positive(d.experts_key, d.experts);
  expert_choices = config.positive("num_experts_per_tok", d.choices);
  ffn = config.positive(d.ffn_key, d.ffn);
  vocabulary = config.positive("vocab_size", d.vocabulary);
  max_positions = config.positive("max_position_embeddings", d.max_positions);
  tie_embeddings = config.boolean("tie_word_embeddings", false);
  norm_eps = static_cast<float>(config.number("rms_norm_eps", d.norm_eps));
  rope_theta = plain_rope_theta(config, d.rope_theta);
  balance.bias_rate = config.number("router_bias_rate", 0);
  if (!(balance.bias_rate >= 0)) config.fail("router_bias_rate", "is below 0");
  const std::string activation = config.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish")
    config.fail("hidden_act", "{} is not implemented; silu is", activation);
}

// transformers takes the balance loss of all layers at once, and sums the choices' shares where ours is their mean. It
// knows of no bias.
nlohmann::json MoeDecoderConfig::to_hf_decoder(const std::string& architecture, const std::string& experts_key,
                                               const std::string& ffn_key, const nlohmann::json& more) const {
  nlohmann::json json = {
      {"architectures", {architecture}},
      {"model_type", family()},
      {"num_hidden_layers", layers},
      {"hidden_size", width},
      {"num_attention_heads", heads},
      {"num_key_value_heads", kv_heads},
      {"head_dim", head_dim},
      {experts_key, experts},
      {"num_experts_per_tok", expert_choices},
      {ffn_key, ffn},
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
  json.update(more);
  return json;
}

}  // namespace deepflow
