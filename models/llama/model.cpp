#include "models/llama/model.h"

#include "models/llama/name_map.h"

#include <cmath>

namespace deepflow {
namespace {

float residual_stddev(const LlamaConfig& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

SelfAttention::Options attention_options(const LlamaConfig& c, int layer) {
  return {.width = c.width,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .qkv_bias = c.attention_bias,
          .out_bias = c.attention_bias,
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
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .ffn = c.ffn,
          .gated_mlp = true,
          .tied_head = c.tie_embeddings};
}

}  // namespace

LlamaBlock::LlamaBlock(const LlamaConfig& c, ParameterRegistry& registry, int layer)
    : attention_norm(registry, llama_layer_name(layer) + ".attention_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      attention(registry, llama_layer_name(layer) + ".attention", attention_options(c, layer)),
      mlp_norm(registry, llama_layer_name(layer) + ".mlp_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      mlp(registry, llama_layer_name(layer) + ".mlp", mlp_options(c)) {}

Residual LlamaBlock::operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
  const NormResult a = attention_norm(context, stream);
  const NormResult m = mlp_norm(context, {a.residual, attention(context, a.normed, &rope)});
  return {m.residual, mlp(context, m.normed)};
}

LlamaModel::LlamaModel(const LlamaConfig& c, Runtime& runtime, ParameterRegistry& registry, Recompute recompute)
    : CausalModel(shape_of(c), recompute),
      config_(c),
      rope_(make_rope_table(runtime, rope_options(c))),
      embedding_(registry, {.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std}) {
  end_layer(registry);
  for (int layer = 0; layer < c.layers; ++layer) {
    blocks_.emplace_back(c, registry, layer);
    end_layer(registry);
  }
  norm_ = std::make_unique<Norm>(registry, "norm", Norm::Kind::kRms, c.width, c.norm_eps);
  head_ = std::make_unique<VocabularyHead>(registry, c.vocabulary, c.width, c.init_std,
                                           c.tie_embeddings ? embedding_.table() : nullptr);
}

Residual LlamaModel::block(ForwardContext& context, int64_t layer, const Residual& stream) const {
  const LlamaBlock& block = blocks_[static_cast<size_t>(layer)];
  return run_block(
      context, stream, recompute_of(layer),
      [this, &block](ForwardContext& inner, const Residual& entering) { return block(inner, entering, rope_); });
}

ForeignNames LlamaModel::hugging_face_names() const { return llama_hugging_face_names(config_); }

}  // namespace deepflow
