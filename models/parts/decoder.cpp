#include "models/parts/decoder.h"

#include <cmath>

namespace deepflow {
namespace {

float residual_stddev(const DecoderConfig& c) { return c.init_std / std::sqrt(2.0f * static_cast<float>(c.layers)); }

}  // namespace

SelfAttention::Options attention_options(const DecoderConfig& c, int layer) {
  return {.width = c.width,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .stddev = c.init_std,
          .out_stddev = residual_stddev(c),
          .layer = layer};
}

MlpOptions mlp_options(const DecoderConfig& c) {
  return {.width = c.width, .ffn = c.ffn, .stddev = c.init_std, .out_stddev = residual_stddev(c)};
}

ModelShape decoder_shape(const DecoderConfig& c) {
  return {.layers = c.layers,
          .width = c.width,
          .vocabulary = c.vocabulary,
          .max_positions = c.max_positions,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .value_dim = c.head_dim,
          .ffn = c.ffn,
          .gated_mlp = true,
          .tied_head = c.tie_embeddings};
}

}  // namespace deepflow
