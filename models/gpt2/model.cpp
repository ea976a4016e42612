#include "models/gpt2/model.h"

#include "kernels/ops/dropout.h"
#include "kernels/ops/embedding.h"
#include "models/gpt2/name_map.h"
#include "models/parts/token_table.h"

#include <cmath>

namespace deepflow {
namespace {

float residual_stddev(const Gpt2Config& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

SelfAttention::Options attention_options(const Gpt2Config& c, int layer) {
  return {.width = c.width,
          .heads = c.heads,
          .kv_heads = c.heads,
          .head_dim = c.width / c.heads,
          .bias = true,
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
          .head_dim = c.width / c.heads,
          .kv_width = c.width};
}

}  // namespace

Gpt2Block::Gpt2Block(const Gpt2Config& c, ParameterRegistry& registry, int layer)
    : name_(gpt2_layer_name(layer)),
      dropout_(c.dropout),
      attention_norm_(registry, name_ + ".attention_norm", Norm::Kind::kLayer, c.width, c.norm_eps),
      attention_(registry, name_ + ".attention", attention_options(c, layer)),
      mlp_norm_(registry, name_ + ".mlp_norm", Norm::Kind::kLayer, c.width, c.norm_eps),
      mlp_(registry, name_ + ".mlp", mlp_options(c), c.gelu) {}

Residual Gpt2Block::operator()(ForwardContext& context, const Residual& stream) const {
  const NormResult a = attention_norm_(context, stream);
  const Var attended = dropout(context, attention_(context, a.normed, nullptr), dropout_, name_ + ".attention.dropout");
  const NormResult m = mlp_norm_(context, {a.residual, attended});
  return {m.residual, dropout(context, mlp_(context, m.normed), dropout_, name_ + ".mlp.dropout")};
}

Gpt2Model::Gpt2Model(const Gpt2Config& c, ParameterRegistry& registry, Recompute recompute)
    : CausalModel(shape_of(c)), recompute_(recompute), dropout_(c.dropout), tied_(c.tie_embeddings) {
  embedding_ = declare_embedding(registry, "embedding", c.vocabulary, c.width, c.init_std);
  positions_ = declare_embedding(registry, "positions", c.max_positions, c.width, c.init_std);
  for (int layer = 0; layer < c.layers; ++layer) blocks_.emplace_back(c, registry, layer);
  norm_ = std::make_unique<Norm>(registry, "norm", Norm::Kind::kLayer, c.width, c.norm_eps);
  head_ = declare_head(registry, c.vocabulary, c.width, c.init_std, tied_ ? embedding_ : nullptr);
}

Var Gpt2Model::hidden(ForwardContext& context, const Tensor& tokens) const {
  check_rows(context, tokens);
  const Var x = embedding(context, tokens, *embedding_, positions_);
  Residual stream{dropout(context, x, dropout_, "embedding.dropout"), std::nullopt};
  for (const Gpt2Block& block : blocks_) stream = run_block(context, stream, recompute_, std::cref(block));
  return (*norm_)(context, stream).normed;
}

ForeignNames Gpt2Model::hugging_face_names() const { return gpt2_hugging_face_names(shape_.layers, tied_); }

}  // namespace deepflow
