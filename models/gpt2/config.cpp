#include "models/gpt2/config.h"

#include "models/extents.h"
#include "models/gpt2/model.h"
#include "models/hf_config.h"

namespace deepflow {

void Gpt2Config::declare(OptionGroup& group) {
  group.add("layers", layers).help("transformer blocks; 0: as in init_from").range(0, kMostLayers);
  group.add("width", width).help("columns of the residual stream; 0: as in init_from").range(0, kLargestExtent);
  group.add("heads", heads).help("attention heads, a divisor of width; 0: as in init_from").range(0, kLargestExtent);
  group.add("ffn", ffn).help("columns inside the MLP; 0: 4 * width").range(0, kLargestExtent);
  group.add("vocabulary", vocabulary)
      .help("rows of the embedding; 0: the tokenizer's size")
      .unit("tokens")
      .range(0, kLargestExtent);
  group.add("max_positions", max_positions)
      .help("learned positions; 0: the data's sequence length")
      .unit("tokens")
      .range(0, kLargestExtent);
  group.add("tie_embeddings", tie_embeddings).help("the head reads the embedding's matrix").source("Press & Wolf 2017");
  group.add("gelu", gelu)
      .values({{"tanh", GeluKind::kTanh}, {"exact", GeluKind::kExact}})
      .help("form of the activation")
      .source("Hendrycks & Gimpel 2016");
  group.add("norm_eps", norm_eps).help("added to the variance inside a norm").above(0).at_most(1);
  group.add("dropout", dropout)
      .help("share of the embedding and of each layer's output that is dropped in training")
      .at_least(0)
      .below(1)
      .source("Srivastava et al. 2014");
  group.add("init_std", init_std)
      .help("standard deviation of initial weights; divided by sqrt(2 layers) where a layer joins the residual stream")
      .above(0)
      .source("Radford et al. 2019");
}

void Gpt2Config::read_hf(const HfConfig& config) {
  layers = config.positive("n_layer", 12);
  width = config.positive("n_embd", 768);
  heads = config.positive("n_head", 12);
  ffn = config.positive("n_inner", 4 * width);
  vocabulary = config.positive("vocab_size", 50257);
  max_positions = config.positive("n_positions", 1024);
  tie_embeddings = config.boolean("tie_word_embeddings", true);
  norm_eps = static_cast<float>(config.number("layer_norm_epsilon", 1e-5));
  const std::string activation = config.text("activation_function", "gelu_new");
  if (activation == "gelu_new" || activation == "gelu_pytorch_tanh")
    gelu = GeluKind::kTanh;
  else if (activation == "gelu")
    gelu = GeluKind::kExact;
  else
    config.fail("activation_function", "{} is not implemented; gelu_new, gelu_pytorch_tanh and gelu are", activation);
  if (!config.boolean("scale_attn_weights", true)) config.fail("scale_attn_weights", "false is not implemented");
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    if (config.boolean(key, false)) config.fail(key, "true is not implemented");
}

nlohmann::json Gpt2Config::to_hf() const {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"n_layer", layers},
          {"n_embd", width},
          {"n_head", heads},
          {"n_inner", ffn},
          {"vocab_size", vocabulary},
          {"n_positions", max_positions},
          {"tie_word_embeddings", tie_embeddings},
          {"activation_function", gelu == GeluKind::kTanh ? "gelu_new" : "gelu"},
          {"layer_norm_epsilon", norm_eps},
          {"embd_pdrop", dropout},
          {"resid_pdrop", dropout},
          {"attn_pdrop", 0.0},
          {"initializer_range", init_std},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr}};
}

void Gpt2Config::fill_in(int64_t vocabulary_size, int64_t sequence) {
  if (vocabulary == 0) vocabulary = vocabulary_size;
  if (max_positions == 0) max_positions = sequence;
  if (ffn == 0) ffn = 4 * width;
}

std::optional<ModelConfig::Problem> Gpt2Config::problem() const {
  if (auto missing = missing_extent({{"layers", layers},
                                     {"width", width},
                                     {"heads", heads},
                                     {"ffn", ffn},
                                     {"vocabulary", vocabulary},
                                     {"max_positions", max_positions}}))
    return missing;
  if (auto many = too_many_layers(layers)) return many;
  return does_not_divide("heads", heads, width, "columns (model.width)");
}

std::unique_ptr<CausalModel> Gpt2Config::build(Runtime&, ParameterRegistry& registry, Recompute recompute) const {
  return std::make_unique<Gpt2Model>(*this, registry, recompute);
}

}  // namespace deepflow
