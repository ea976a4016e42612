#include "models/gpt2/model.h"

#include "kernels/ops/dropout.h"
#include "models/gpt2/name_map.h"

#include <cmath>

namespace deepflow {
namespace {

float residual_stddev(const Gpt2Config& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

SelfAttention::Options attention_options(const Gpt2Config& c, int layer) {
  return {.width = c.width,
          .heads = c.heads,
          .kv_heads = c.heads,
          .head_dim = c.width / c.heads,
          .qkv_bias = true,
          .out_bias = true,
          .stddev = c.init_std,
          .out_stddev = residual_stddev(c),
          .layer = layer};
}

MlpOptions mlp_options(const Gpt2Config& c) {
  return {.width = c.width, .ffn = c.ffn, .bias = true, .stddev = c.init_std, .out_stddev = residual_stddev(c)};
}

ModelShape shape_of(const Gpt2Config& c) {
  return {.layers = c.layers,
          .width = c.width,
          .vocabulary = c.vocabulary,
          .max_positions = c.max_positions,
          .heads = c.heads,
          .kv_heads = c.heads,
          .head_dim = c.width / c.heads,
          .value_dim = c.width / c.heads,
          .ffn = c.ffn,
          .row_statistics = 2,
          .position_rows = c.max_positions,
          .tied_head = c.tie_embeddings};
}

}  // namespace

Gpt2Block::Gpt2Block(const Gpt2Config& c, ParameterRegistry& registry, int layer)
    : name(gpt2_layer_name(layer)),
      dropout_rate(c.dropout),
      attention_norm(registry, name + ".attention_norm", Norm::Kind::kLayer, c.width, c.norm_eps),
      attention(registry, name + ".attention", attention_options(c, layer)),
      mlp_norm(registry, name + ".mlp_norm", Norm::Kind::kLayer, c.width, c.norm_eps),
      mlp(registry, name + ".mlp", mlp_options(c), c.gelu) {}

Residual Gpt2Block::operator()(ForwardContext& context, const Residual& stream) const {
  const NormResult a = attention_norm(context, stream);
  const Var attended =
      dropout(context, attention(context, a.normed, nullptr), dropout_rate, name + ".attention.dropout");
  const NormResult m = mlp_norm(context, {a.residual, attended});
  return {m.residual, dropout(context, mlp(context, m.normed), dropout_rate, name + ".mlp.dropout")};
}

Gpt2Model::Gpt2Model(const Gpt2Config& c, ParameterRegistry& registry, Recompute recompute)
    : CausalModel(shape_of(c), recompute),
      dropout_(c.dropout),
      tied_(c.tie_embeddings),
      embedding_(registry,
                 {.vocabulary = c.vocabulary, .width = c.width, .positions = c.max_positions, .stddev = c.init_std}) {
  end_layer(registry);
  for (int layer = 0; layer < c.layers; ++layer) {
    blocks_.emplace_back(c, registry, layer);
    end_layer(registry);
  }
  norm_ = std::make_unique<Norm>(registry, "norm", Norm::Kind::kLayer, c.width, c.norm_eps);
  head_ = std::make_unique<VocabularyHead>(
      registry, VocabularyHead::Options{.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std},
      tied_ ? embedding_.table() : nullptr);
}

Var Gpt2Model::embed(ForwardContext& context, const Tensor& tokens) const {
  return dropout(context, embedding_(context, tokens), dropout_, "embedding.dropout");
}

Residual Gpt2Model::block(ForwardContext& context, int64_t layer, const Residual& stream) const {
  return run_block(context, stream, recompute_of(layer), std::cref(blocks_[static_cast<size_t>(layer)]));
}

void Gpt2Model::watch_scores() {
  for (Gpt2Block& block : blocks_) block.attention.watch_scores();
}

std::vector<AttentionLayer> Gpt2Model::attention_layers() const {
  std::vector<AttentionLayer> layers;
  for (const Gpt2Block& block : blocks_) layers.push_back(block.attention.description());
  return layers;
}

ForeignNames Gpt2Model::hugging_face_names() const { return gpt2_hugging_face_names(shape_.layers, tied_); }

}  // namespace deepflow
