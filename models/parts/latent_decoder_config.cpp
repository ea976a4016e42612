#include "models/parts/latent_decoder_config.h"

#include "core/option.h"
#include "models/extents.h"
#include "models/hf_config.h"
#include "models/parts/expert_names.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr double kLatentNormEps = 1e-6;  // whatever the other norms have, as in the published code

nlohmann::json or_null(int64_t value) { return value > 0 ? nlohmann::json(value) : nlohmann::json(); }

// What scores are multiplied with beside 1 / sqrt(columns), as in the published code: queries and keys each by mscale.
double score_stretch(const std::optional<RopeScaling>& scaling) {
  if (!scaling || scaling->kind != RopeScaling::Kind::kYarn || scaling->mscale_all_dim == 0) return 1;
  const double mscale = yarn_mscale(scaling->factor, scaling->mscale_all_dim);
  return mscale * mscale;
}

std::optional<ModelConfig::Problem> group_problem(const LatentDecoderConfig& c) {
  using Problem = ModelConfig::Problem;
  if (auto problem = does_not_divide("router_groups", c.router_groups, c.experts, "experts (model.experts)"))
    return problem;
  if (c.router_groups > kMostExpertGroups)
    return Problem{"router_groups", fmt::format("{} are more than {}", c.router_groups, kMostExpertGroups)};
  if (c.router_top_groups < 1 || c.router_top_groups > c.router_groups)
    return Problem{"router_top_groups", fmt::format("{} are not between 1 and {} (model.router_groups)",
                                                    c.router_top_groups, c.router_groups)};
  const int64_t reachable = c.experts / c.router_groups * c.router_top_groups;
  if (c.expert_choices > reachable)
    return Problem{"expert_choices", fmt::format("{} are more than the {} experts of {} groups", c.expert_choices,
                                                 reachable, c.router_top_groups)};
  return std::nullopt;
}

}  // namespace

void LatentDecoderConfig::declare(OptionGroup& group) {
  MoeDecoderConfig::declare(group);
  group.add("dense_layers", dense_layers)
      .help("first layers, which have an MLP and no experts")
      .range(0, kLargestExtent);
  group.add("dense_ffn", dense_ffn)
      .help("columns inside those MLPs; 0: those of the experts that a token goes to")
      .range(0, kLargestExtent);
  group.add("shared_experts", shared_experts)
      .help("experts that every token goes to, made as one of that many times ffn columns")
      .range(0, kMostExperts)
      .source("Dai et al. 2024, section 3.2");
  group.add("router_groups", router_groups)
      .help("groups of experts; those of a group that lives on one node make routing limited to nodes")
      .range(1, kMostExpertGroups)
      .source("DeepSeek-V2, section 2.1.3");
  group.add("router_top_groups", router_top_groups)
      .help("groups that a token's experts may come from")
      .range(1, kMostExpertGroups);
  group.add("router_scale", router_scale).help("the weights of a token's experts are multiplied by it").above(0);
}

void LatentDecoderConfig::declare_heads(OptionGroup& group) {
  group.add("query_rank", query_rank)
      .help("columns of the latent row that queries are made of; 0: they are made of the residual stream")
      .range(0, kLargestExtent)
      .source("DeepSeek-V2, section 2.1");
  group.add("latent_rank", latent_rank)
      .help("columns of the latent row that keys and values are made of")
      .range(1, kLargestExtent);
  group.add("nope_dim", nope_dim)
      .help("columns of a query and a key that know no position, even")
      .range(1, kLargestExtent);
  group.add("rope_dim", rope_dim)
      .help("rotated columns of a query, and of the one key of all heads, even")
      .range(2, kLargestExtent);
  group.add("value_dim", value_dim).help("columns of a value, even").range(1, kLargestExtent);
  group.add("attention_bias", attention_bias).help("biases on latent rows and the attention's output");
}

void LatentDecoderConfig::fill_in(int64_t vocabulary_size, int64_t sequence) {
  kv_heads = heads;
  head_dim = nope_dim + rope_dim;
  MoeDecoderConfig::fill_in(vocabulary_size, sequence);
  if (dense_ffn == 0) dense_ffn = ffn * (expert_choices + shared_experts);
}

std::optional<ModelConfig::Problem> LatentDecoderConfig::problem() const {
  if (auto problem = MoeDecoderConfig::problem()) return problem;
  if (auto missing = missing_extent({{"latent_rank", latent_rank},
                                     {"nope_dim", nope_dim},
                                     {"rope_dim", rope_dim},
                                     {"value_dim", value_dim},
                                     {"dense_ffn", dense_ffn}}))
    return missing;
  for (const auto& [key, dim] : {std::pair{"nope_dim", nope_dim}, {"rope_dim", rope_dim}, {"value_dim", value_dim}})
    if (dim % 2 != 0) return Problem{key, fmt::format("{} is odd", dim)};
  if (dense_layers > layers)
    return Problem{"dense_layers", fmt::format("{} are more than {} layers (model.layers)", dense_layers, layers)};
  return group_problem(*this);
}

void LatentDecoderConfig::read_hf_latent(const HfConfig& config, const HfLatentDefaults& d) {
  const bool says_rank = config.has("q_lora_rank") || config.is_null("q_lora_rank");
  query_rank = says_rank ? config.whole("q_lora_rank", 0) : d.query_rank;
  latent_rank = config.positive("kv_lora_rank", 512);
  nope_dim = config.positive("qk_nope_head_dim", 128);
  rope_dim = config.positive("qk_rope_head_dim", 64);
  value_dim = config.positive("v_head_dim", 128);
  if (kv_heads != heads) config.fail("num_key_value_heads", "{} are not as many as heads, {}", kv_heads, heads);
  head_dim = nope_dim + rope_dim;
  attention_bias = config.boolean("attention_bias", false);
  dense_layers = config.whole("first_k_dense_replace", d.dense_layers);
  dense_ffn = config.positive("intermediate_size", 11008);
  shared_experts = config.whole("n_shared_experts", d.shared_experts);
  router_groups = config.positive("n_group", d.groups);
  router_top_groups = config.positive("topk_group", d.top_groups);
  router_scale = static_cast<float>(config.number("routed_scaling_factor", d.router_scale));
  if (config.positive("moe_layer_freq", 1) != 1)
    config.fail("moe_layer_freq", "layers without experts between others are not implemented; 1 is");
}

nlohmann::json LatentDecoderConfig::hf_latent() const {
  nlohmann::json json = hf_experts("n_routed_experts");
  json.erase("sliding_window");
  json.update({{"q_lora_rank", or_null(query_rank)},
               {"kv_lora_rank", latent_rank},
               {"qk_nope_head_dim", nope_dim},
               {"qk_rope_head_dim", rope_dim},
               {"v_head_dim", value_dim},
               {"head_dim", rope_dim},
               {"attention_bias", attention_bias},
               {"first_k_dense_replace", dense_layers},
               {"moe_layer_freq", 1},
               {"intermediate_size", dense_ffn},
               {"moe_intermediate_size", ffn},
               {"n_shared_experts", shared_experts},
               {"n_group", router_groups},
               {"topk_group", router_top_groups},
               {"routed_scaling_factor", router_scale}});
  return json;
}

LatentAttention::Options latent_attention_options(const LatentDecoderConfig& c, int layer) {
  const MlpOptions mlp = mlp_options(c);
  LatentAttention::Options o;
  o.width = c.width;
  o.heads = c.heads;
  o.query_rank = c.query_rank;
  o.latent_rank = c.latent_rank;
  o.nope_dim = c.nope_dim;
  o.rope_dim = c.rope_dim;
  o.value_dim = c.value_dim;
  o.bias = c.attention_bias;
  o.norm_eps = static_cast<float>(kLatentNormEps);
  const double root = std::sqrt(static_cast<double>(c.nope_dim + c.rope_dim));
  o.scale = static_cast<float>(score_stretch(c.rope_scaling) / root);
  o.stddev = mlp.stddev;
  o.out_stddev = mlp.out_stddev;
  o.layer = layer;
  return o;
}

LatentDecoderConfig::Model::Options LatentDecoderConfig::model_options(const Routing& routing, bool router_bias) const {
  MoeOptions moe = moe_options(*this);
  moe.routing = routing;
  moe.routing.choices = expert_choices;
  moe.routing.groups = router_groups;
  moe.routing.top_groups = router_top_groups;
  moe.routing.scale = router_scale;
  moe.router_bias = router_bias;
  moe.shared_ffn = shared_experts * ffn;
  MlpOptions mlp = mlp_options(*this);
  mlp.ffn = dense_ffn;
  const auto feed_forward = [this, moe, mlp](int layer) -> FeedForwardOptions {
    if (layer < dense_layers || dense_layers == layers) return mlp;  // the module's block is as the last layer
    return moe;
  };
  Model::Options options{[this](int layer) { return latent_attention_options(*this, layer); }, feed_forward,
                         hugging_face_names(router_bias)};
  if (mtp_weight > 0) options.mtp = MtpOptions{mtp_weight};
  return options;
}

ForeignNames LatentDecoderConfig::hugging_face_names(bool router_bias) const {
  const bool bias = attention_bias;
  std::vector<LayerName> attention = {
      {".input_layernorm", ".attention_norm"},
      {".self_attn.kv_a_proj_with_mqa", ".attention.kv_down", bias, ".attention.k_rope"},
      {".self_attn.kv_a_layernorm", ".attention.kv_norm"},
      {".self_attn.kv_b_proj", ".attention.kv_up"},
      {".self_attn.o_proj", ".attention.out", bias}};
  if (query_rank > 0)
    attention.insert(attention.end(), {{".self_attn.q_a_proj", ".attention.q_down", bias},
                                       {".self_attn.q_a_layernorm", ".attention.q_norm"},
                                       {".self_attn.q_b_proj", ".attention.q_up"}});
  else
    attention.push_back({".self_attn.q_proj", ".attention.q"});
  MoeDecoderNames names{.layers = layers,
                        .experts = experts,
                        .tied_head = tie_embeddings,
                        .router_bias = router_bias,
                        .of_layer = attention,
                        .called = {".mlp", "gate_proj", "up_proj", "down_proj"},
                        .dense_layers = dense_layers == layers ? layers + 1 : dense_layers,
                        .of_dense_layer = attention};
  names.of_dense_layer.insert(names.of_dense_layer.end(), {{".post_attention_layernorm", ".mlp_norm"},
                                                           {".mlp.gate_proj", ".mlp.gate"},
                                                           {".mlp.up_proj", ".mlp.up"},
                                                           {".mlp.down_proj", ".mlp.down"}});
  names.of_layer.push_back({".post_attention_layernorm", ".moe_norm"});
  if (shared_experts > 0)
    names.of_layer.insert(names.of_layer.end(), {{".mlp.shared_experts.gate_proj", ".moe.shared.gate"},
                                                 {".mlp.shared_experts.up_proj", ".moe.shared.up"},
                                                 {".mlp.shared_experts.down_proj", ".moe.shared.down"}});
  names.layers_behind = mtp_weight > 0 ? 1 : 0;
  ForeignNames all = moe_decoder_names(names);
  if (mtp_weight > 0) add_mtp_names(all, layers);
  return all;
}

}  // namespace deepflow
