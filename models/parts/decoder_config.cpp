#include "models/parts/decoder_config.h"

#include "models/extents.h"

#include <algorithm>

namespace deepflow {

void DecoderConfig::declare(OptionGroup& group) {
  group.add("layers", layers).help("transformer blocks; 0: as in init_from").range(0, kMostLayers);
  group.add("width", width).help("columns of the residual stream; 0: as in init_from").range(0, kLargestExtent);
  group.add("heads", heads).help("query heads; 0: as in init_from").range(0, kLargestExtent);
  declare_heads(group);
  declare_ffn(group);
  group.add("vocabulary", vocabulary)
      .help("rows of the embedding; 0: the tokenizer's size")
      .unit("tokens")
      .range(0, kLargestExtent);
  group.add("max_positions", max_positions)
      .help("longest sequence; 0: the data's sequence length")
      .unit("tokens")
      .range(0, kLargestExtent);
  group.add("tie_embeddings", tie_embeddings).help("the head reads the embedding's matrix").source("Press & Wolf 2017");
  group.add("rope_theta", rope_theta).help("base of the rotary wavelengths").above(0).source("Su et al. 2021");
  group.add("rope_scaling", rope_scaling).help("stretches the rotary positions").when_absent("positions as they are");
  group.add("norm_eps", norm_eps).help("added to the mean square inside a norm").above(0).at_most(1);
  group.add("init_std", init_std)
      .help("standard deviation of initial weights; divided by sqrt(2 layers) where a layer joins the residual stream")
      .above(0)
      .source("Radford et al. 2019");
}

void DecoderConfig::declare_heads(OptionGroup& group) {
  group.add("kv_heads", kv_heads)
      .help("key and value heads, a divisor of heads; 0: as many as heads")
      .range(0, kLargestExtent)
      .source("Ainslie et al. 2023");
  group.add("head_dim", head_dim).help("columns of one head, even; 0: width / heads").range(0, kLargestExtent);
}

void DecoderConfig::declare_ffn(OptionGroup& group) {
  group.add("ffn", ffn).help("columns inside the MLP; 0: 8/3 of width, rounded up to 64").range(0, kLargestExtent);
}

void DecoderConfig::fill_in(int64_t vocabulary_size, int64_t sequence) {
  constexpr int64_t kFfnMultiple = 64;
  if (vocabulary == 0) vocabulary = vocabulary_size;
  if (max_positions == 0) max_positions = sequence;
  if (kv_heads == 0) kv_heads = heads;
  if (head_dim == 0 && heads > 0) head_dim = width / heads;
  if (ffn == 0) ffn = (width * 8 / 3 + kFfnMultiple - 1) / kFfnMultiple * kFfnMultiple;
}

std::optional<ModelConfig::Problem> DecoderConfig::problem() const {
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
  // transformers refuses such a width even when head_dim is given, and every run ends with a folder that it loads.
  return first_problem(does_not_divide("heads", heads, width, "columns (model.width)"),
                       does_not_divide("kv_heads", kv_heads, heads, "heads (model.heads)"));
}

RopeOptions rope_options(const DecoderConfig& config) {
  RopeOptions options;
  options.head_dim = config.rotary_columns();
  options.max_positions = config.max_positions;
  options.theta = config.rope_theta;
  if (config.rope_scaling) stretch(options, *config.rope_scaling);
  return options;
}

void DecoderConfig::read_hf_decoder(const HfConfig& config, const HfDefaults& d) {
  layers = config.positive("num_hidden_layers", d.layers);
  width = config.positive("hidden_size", d.width);
  heads = config.positive("num_attention_heads", d.heads);
  kv_heads = config.positive("num_key_value_heads", d.kv_heads > 0 ? d.kv_heads : heads);
  head_dim = config.positive("head_dim", d.head_dim > 0 ? d.head_dim : std::max<int64_t>(1, width / heads));
  ffn = config.positive(d.ffn_key, d.ffn);
  vocabulary = config.positive("vocab_size", d.vocabulary);
  max_positions = config.positive("max_position_embeddings", d.max_positions);
  tie_embeddings = config.boolean("tie_word_embeddings", d.tie_embeddings);
  norm_eps = static_cast<float>(config.number("rms_norm_eps", d.norm_eps));
  const HfRope rope = read_hf_rope(config, max_positions, d.rope_theta);
  rope_theta = rope.theta;
  rope_scaling = rope.scaling;
}

nlohmann::json DecoderConfig::to_hf_decoder(const std::string& architecture, const nlohmann::json& more) const {
  nlohmann::json config = {{"architectures", {architecture}},
                           {"model_type", family()},
                           {"num_hidden_layers", layers},
                           {"hidden_size", width},
                           {"num_attention_heads", heads},
                           {"num_key_value_heads", kv_heads},
                           {"head_dim", head_dim},
                           {"intermediate_size", ffn},
                           {"vocab_size", vocabulary},
                           {"max_position_embeddings", max_positions},
                           {"tie_word_embeddings", tie_embeddings},
                           {"rms_norm_eps", norm_eps},
                           {"initializer_range", init_std},
                           {"bos_token_id", nullptr},
                           {"eos_token_id", nullptr}};
  config.update(hf_rope({rope_theta, rope_scaling}));
  config.update(more);
  return config;
}

void check_hf_activation(const HfConfig& config, const std::string& key, const std::string& name,
                         const std::string& other_name) {
  const std::string activation = config.text(key, name);
  if (activation != name && activation != other_name)
    config.fail(key, "{} is not implemented; {} is", activation, name);
}

}  // namespace deepflow
