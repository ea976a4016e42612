#include "models/llama/config.h"

#include "models/extents.h"
#include "models/llama/model.h"

namespace deepflow {

void declare(OptionGroup& group, RopeScaling& s) {
  group.add("type", s.kind)
      .values({{"llama3", RopeScaling::Kind::kLlama3}, {"linear", RopeScaling::Kind::kLinear}})
      .help("llama3 slows low frequencies only, linear all of them")
      .source("Grattafiori et al. 2024; Chen et al. 2023");
  group.add("factor", s.factor).help("how much longer sequences become").at_least(1);
  group.add("low_freq_factor", s.low_freq_factor)
      .help("llama3: wavelengths above original_max_positions / this are slowed by the whole factor")
      .above(0);
  group.add("high_freq_factor", s.high_freq_factor)
      .help("llama3: wavelengths below original_max_positions / this stay as they are")
      .above(0);
  group.add("original_max_positions", s.original_max_positions)
      .help("llama3: positions of the pretraining")
      .unit("tokens")
      .at_least(1);
}

void LlamaConfig::declare(OptionGroup& group) {
  group.add("layers", layers).help("transformer blocks; 0: as in init_from").range(0, kMostLayers);
  group.add("width", width).help("columns of the residual stream; 0: as in init_from").at_least(0);
  group.add("heads", heads).help("query heads; 0: as in init_from").at_least(0);
  group.add("kv_heads", kv_heads)
      .help("key and value heads, a divisor of heads; 0: as many as heads")
      .at_least(0)
      .source("Ainslie et al. 2023");
  group.add("head_dim", head_dim).help("columns of one head, even; 0: width / heads").at_least(0);
  group.add("ffn", ffn).help("columns inside the MLP; 0: 8/3 of width, rounded up to 64").at_least(0);
  group.add("vocabulary", vocabulary).help("rows of the embedding; 0: the tokenizer's size").unit("tokens").at_least(0);
  group.add("max_positions", max_positions)
      .help("longest sequence; 0: the data's sequence length")
      .unit("tokens")
      .at_least(0);
  group.add("tie_embeddings", tie_embeddings).help("the head reads the embedding's matrix").source("Press & Wolf 2017");
  group.add("attention_bias", attention_bias).help("biases on queries, keys, values and the attention's output");
  group.add("mlp_bias", mlp_bias).help("biases inside the MLP");
  group.add("rope_theta", rope_theta).help("base of the rotary wavelengths").above(0).source("Su et al. 2021");
  group.add("rope_scaling", rope_scaling).help("stretches the rotary positions").when_absent("positions as they are");
  group.add("norm_eps", norm_eps).help("added to the mean square inside a norm").above(0).at_most(1);
  group.add("init_std", init_std)
      .help("standard deviation of initial weights; divided by sqrt(2 layers) where a layer joins the residual stream")
      .above(0)
      .source("Radford et al. 2019");
}

void LlamaConfig::fill_in(int64_t vocabulary_size, int64_t sequence) {
  constexpr int64_t kFfnMultiple = 64;
  if (vocabulary == 0) vocabulary = vocabulary_size;
  if (max_positions == 0) max_positions = sequence;
  if (kv_heads == 0) kv_heads = heads;
  if (head_dim == 0 && heads > 0) head_dim = width / heads;
  if (ffn == 0) ffn = (width * 8 / 3 + kFfnMultiple - 1) / kFfnMultiple * kFfnMultiple;
}

std::optional<ModelConfig::Problem> LlamaConfig::problem() const {
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

RopeOptions rope_options(const LlamaConfig& config) {
  RopeOptions options;
  options.head_dim = config.head_dim;
  options.max_positions = config.max_positions;
  options.theta = config.rope_theta;
  if (!config.rope_scaling) return options;
  const RopeScaling& scaling = *config.rope_scaling;
  if (scaling.kind == RopeScaling::Kind::kLinear)
    options.linear_factor = scaling.factor;
  else
    options.llama3 = Llama3RopeScaling{scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor,
                                       scaling.original_max_positions};
  return options;
}

std::unique_ptr<CausalModel> LlamaConfig::build(Runtime& runtime, ParameterRegistry& registry,
                                                Recompute recompute) const {
  return std::make_unique<LlamaModel>(*this, runtime, registry, recompute);
}

}  // namespace deepflow
