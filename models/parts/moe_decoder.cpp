#include "models/parts/moe_decoder.h"

#include "models/parts/expert_names.h"

#include <cmath>
#include <utility>

namespace deepflow {
namespace {

float residual_stddev(const MoeDecoderConfig& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

ModelShape shape_of(const MoeDecoderConfig& c, const MoeOptions& moe) {
  return {.layers = c.layers,
          .width = c.width,
          .vocabulary = c.vocabulary,
          .max_positions = c.max_positions,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .experts = moe.experts,
          .expert_choices = moe.routing.choices,
          .expert_ffn = moe.ffn,
          .shared_ffn = moe.shared_ffn,
          .gated_mlp = true,
          .tied_head = c.tie_embeddings};
}

RopeOptions rope_options(const MoeDecoderConfig& c) {
  RopeOptions options;
  options.head_dim = c.head_dim;
  options.max_positions = c.max_positions;
  options.theta = c.rope_theta;
  return options;
}

}  // namespace

SelfAttention::Options attention_options(const MoeDecoderConfig& c, int layer) {
  SelfAttention::Options o;
  o.width = c.width;
  o.heads = c.heads;
  o.kv_heads = c.kv_heads;
  o.head_dim = c.head_dim;
  o.stddev = c.init_std;
  o.out_stddev = residual_stddev(c);
  o.layer = layer;
  return o;
}

MoeOptions moe_options(const MoeDecoderConfig& c) {
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

MoeBlock::MoeBlock(const MoeDecoderConfig& c, ParameterRegistry& registry, const SelfAttention::Options& a,
                   const MoeOptions& m)
    : attention_norm(registry, moe_layer_name(a.layer) + ".attention_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      attention(registry, moe_layer_name(a.layer) + ".attention", a),
      moe_norm(registry, moe_layer_name(a.layer) + ".moe_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      moe(registry, moe_layer_name(a.layer) + ".moe", m) {}

Residual MoeBlock::operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
  const NormResult a = attention_norm(context, stream);
  const NormResult m = moe_norm(context, {a.residual, attention(context, a.normed, &rope)});
  return {m.residual, moe(context, m.normed)};
}

MoeDecoder::MoeDecoder(const MoeDecoderConfig& c, Options options, Runtime& runtime, ParameterRegistry& registry,
                       Recompute recompute)
    : CausalModel(shape_of(c, options.moe), recompute),
      rope_(make_rope_table(runtime, rope_options(c))),
      embedding_(registry, {.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std}),
      names_(std::move(options.names)) {
  end_layer(registry);
  for (int layer = 0; layer < c.layers; ++layer) {
    blocks_.emplace_back(c, registry, options.attention(layer), options.moe);
    expert_layers_.push_back(blocks_.back().moe.description());
    end_layer(registry);
  }
  norm_ = std::make_unique<Norm>(registry, "norm", Norm::Kind::kRms, c.width, c.norm_eps);
  head_ = std::make_unique<VocabularyHead>(
      registry, VocabularyHead::Options{.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std},
      c.tie_embeddings ? embedding_.table() : nullptr);
}

Residual MoeDecoder::block(ForwardContext& context, int64_t layer, const Residual& stream) const {
  const MoeBlock& block = blocks_[static_cast<size_t>(layer)];
  return run_block(
      context, stream, recompute_of(layer),
      [this, &block](ForwardContext& inner, const Residual& entering) { return block(inner, entering, rope_); });
}

}  // namespace deepflow
