#include "models/mixtral/config.h"

#include "models/extents.h"
#include "models/mixtral/model.h"

namespace deepflow {

void MixtralConfig::declare(OptionGroup& group) {
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

void MixtralConfig::fill_in(int64_t vocabulary_size, int64_t sequence) {
  constexpr int64_t kFfnMultiple = 64;
  if (vocabulary == 0) vocabulary = vocabulary_size;
  if (max_positions == 0) max_positions = sequence;
  if (kv_heads == 0) kv_heads = heads;
  if (head_dim == 0 && heads > 0) head_dim = width / heads;
  if (ffn == 0) ffn = (width * 7 / 2 + kFfnMultiple - 1) / kFfnMultiple * kFfnMultiple;
}

std::optional<ModelConfig::Problem> MixtralConfig::problem() const {
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
  if (auto experts_problem = expert_problem(experts, expert_choices)) return experts_problem;
  if (head_dim % 2 != 0) return Problem{"head_dim", fmt::format("{} is odd; rotary positions turn pairs", head_dim)};
  return does_not_divide("kv_heads", kv_heads, heads, "heads (model.heads)");
}

std::unique_ptr<CausalModel> MixtralConfig::build(Runtime& runtime, ParameterRegistry& registry,
                                                  Recompute recompute) const {
  return std::make_unique<MixtralModel>(*this, runtime, registry, recompute);
}

}  // namespace deepflow
