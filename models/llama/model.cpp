#include "models/llama/model.h"

#include "kernels/ops/embedding.h"
#include "models/llama/name_map.h"
#include "models/parts/token_table.h"

#include <cmath>

namespace deepflow {
namespace {

float residual_stddev(const LlamaConfig& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

SelfAttention::Options attention_options(const LlamaConfig& c, int layer) {
  return {.width = c.width,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .bias = c.attention_bias,
          .stddev = c.init_std,
          .out_stddev = residual_stddev(c),
          .layer = layer};
}

MlpOptions mlp_options(const LlamaConfig& c) {
  return {.width = c.width, .ffn = c.ffn, .bias = c.mlp_bias, .stddev = c.init_std, .out_stddev = residual_stddev(c)};
}

ModelShape shape_of(const LlamaConfig& c) {
  return {.layers = c.layers,
          .width = c.width,
          .vocabulary = c.vocabulary,
          .max_positions = c.max_positions,
          .heads = c.heads,
          .head_dim = c.head_dim,
          .kv_width = c.kv_heads * c.head_dim};
}

}  // namespace

LlamaBlock::LlamaBlock(const LlamaConfig& c, ParameterRegistry& registry, int layer)
    : attention_norm_(registry, llama_layer_name(layer) + ".attention_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      attention_(registry, llama_layer_name(layer) + ".attention", attention_options(c, layer)),
      mlp_norm_(registry, llama_layer_name(layer) + ".mlp_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      mlp_(registry, llama_layer_name(layer) + ".mlp", mlp_options(c)) {}

Residual LlamaBlock::operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
  const NormResult a = attention_norm_(context, stream);
  const NormResult m = mlp_norm_(context, {a.residual, attention_(context, a.normed, &rope)});
  return {m.residual, mlp_(context, m.normed)};
}

LlamaModel::LlamaModel(const LlamaConfig& c, Runtime& runtime, ParameterRegistry& registry, Recompute recompute)
    : CausalModel(shape_of(c)), config_(c), recompute_(recompute), rope_(make_rope_table(runtime, rope_options(c))) {
  embedding_ = declare_embedding(registry, "embedding", c.vocabulary, c.width, c.init_std);
  for (int layer = 0; layer < c.layers; ++layer) blocks_.emplace_back(c, registry, layer);
  norm_ = std::make_unique<Norm>(registry, "norm", Norm::Kind::kRms, c.width, c.norm_eps);
  head_ = declare_head(registry, c.vocabulary, c.width, c.init_std, c.tie_embeddings ? embedding_ : nullptr);
}

Var LlamaModel::hidden(ForwardContext& context, const Tensor& tokens) const {
  check_rows(context, tokens);
  Residual stream{embedding(context, tokens, *embedding_, nullptr), std::nullopt};
  for (const LlamaBlock& block : blocks_) {
    stream = run_block(context, stream, recompute_, [this, &block](ForwardContext& inner, const Residual& entering) {
      return block(inner, entering, rope_);
    });
  }
  return (*norm_)(context, stream).normed;
}

ForeignNames LlamaModel::hugging_face_names() const { return llama_hugging_face_names(config_); }

}  // namespace deepflow
