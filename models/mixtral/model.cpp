#include "models/mixtral/model.h"

#include "models/mixtral/name_map.h"

#include <cmath>

namespace deepflow {
namespace {

float residual_stddev(const MixtralConfig& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

SelfAttention::Options attention_options(const MixtralConfig& c, int layer) {
  return {.width = c.width,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .stddev = c.init_std,
          .out_stddev = residual_stddev(c),
          .layer = layer};
}

MoeOptions moe_options(const MixtralConfig& c) {
  MoeOptions o;
  o.width = c.width;
  o.experts = c.experts;
  o.ffn = c.ffn;
  o.routing.choices = c.expert_choices;
  o.balance = c.balance;
  o.stddev = c.init_std;
  o.out_stddev = residual_stddev(c);
  return o;
}

ModelShape shape_of(const MixtralConfig& c) {
  return {.layers = c.layers,
          .width = c.width,
          .vocabulary = c.vocabulary,
          .max_positions = c.max_positions,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .experts = c.experts,
          .expert_choices = c.expert_choices,
          .expert_ffn = c.ffn,
          .gated_mlp = true,
          .tied_head = c.tie_embeddings};
}

RopeOptions rope_options(const MixtralConfig& c) {
  RopeOptions options;
  options.head_dim = c.head_dim;
  options.max_positions = c.max_positions;
  options.theta = c.rope_theta;
  return options;
}

}  // namespace

MixtralBlock::MixtralBlock(const MixtralConfig& c, ParameterRegistry& registry, int layer)
    : attention_norm(registry, mixtral_layer_name(layer) + ".attention_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      attention(registry, mixtral_layer_name(layer) + ".attention", attention_options(c, layer)),
      moe_norm(registry, mixtral_layer_name(layer) + ".moe_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      moe(registry, mixtral_layer_name(layer) + ".moe", moe_options(c)) {}

Residual MixtralBlock::operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
  const NormResult a = attention_norm(context, stream);
  const NormResult m = moe_norm(context, {a.residual, attention(context, a.normed, &rope)});
  return {m.residual, moe(context, m.normed)};
}

MixtralModel::MixtralModel(const MixtralConfig& c, Runtime& runtime, ParameterRegistry& registry, Recompute recompute)
    : CausalModel(shape_of(c), recompute),
      config_(c),
      rope_(make_rope_table(runtime, rope_options(c))),
      embedding_(registry, {.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std}) {
  end_layer(registry);
  for (int layer = 0; layer < c.layers; ++layer) {
    blocks_.emplace_back(c, registry, layer);
    expert_layers_.push_back(blocks_.back().moe.description());
    end_layer(registry);
  }
  norm_ = std::make_unique<Norm>(registry, "norm", Norm::Kind::kRms, c.width, c.norm_eps);
  head_ = std::make_unique<VocabularyHead>(
      registry, VocabularyHead::Options{.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std},
      c.tie_embeddings ? embedding_.table() : nullptr);
}

Residual MixtralModel::block(ForwardContext& context, int64_t layer, const Residual& stream) const {
  const MixtralBlock& block = blocks_[static_cast<size_t>(layer)];
  return run_block(
      context, stream, recompute_of(layer),
      [this, &block](ForwardContext& inner, const Residual& entering) { return block(inner, entering, rope_); });
}

ForeignNames MixtralModel::hugging_face_names() const { return mixtral_hugging_face_names(config_); }

}  // namespace deepflow
