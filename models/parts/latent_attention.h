#pragma once

#include "kernels/ops/attention.h"
#include "kernels/ops/latent_attention.h"
#include "kernels/ops/rope.h"
#include "models/parts/attention_scores.h"
#include "models/parts/dense.h"
#include "models/parts/norm.h"

#include <optional>
#include <string>

namespace deepflow {

// Multi-head latent attention (DeepSeek-V2, section 2.1): keys and values of all heads are made of one short latent row
// a token, queries perhaps of another; only a few columns of each head are rotated, and the keys' are the same in every
// head. Parameters: NAME.kv_down [latent_rank, width] and NAME.k_rope [rope_dim, width], NAME.kv_norm,
// NAME.kv_up [heads * (nope_dim + value_dim), latent_rank]: of each head the rows that make its key, then those of its
// value; NAME.q_down, NAME.q_norm, NAME.q_up [heads * (nope_dim + rope_dim), query_rank], or NAME.q alone from the
// width; NAME.out [width, heads * value_dim].
class LatentAttention {
 public:
  struct Options {
    int64_t width = 0, heads = 1;
    int64_t query_rank = 0;  // 0: queries are made of x itself
    int64_t latent_rank = 512;
    int64_t nope_dim = 128, rope_dim = 64, value_dim = 128;  // columns of a head: without positions, rotated; value
    bool bias = false;                                       // of what makes latent rows, and of the output
    float norm_eps = 1e-6f;                                  // of latent rows
    float scale = 0;                                         // of scores; 0: 1 / sqrt(nope_dim + rope_dim)
    float stddev = 0.02f, out_stddev = 0.02f;
    int layer = 0;  // which part of the key-value cache is this layer's
  };
  LatentAttention(ParameterRegistry& registry, const std::string& name, const Options& options);

  // x [M, width] -> [M, width], both compute dtype; rope: of rope_dim columns.
  //
  // With context.cache, whose shape says which (CacheShape), either keys and values of all heads are kept, or with
  // values_in_keys one row [latent | rotated k_rope] a token: then kv_up is absorbed in the queries and the output
  // (section 2.1.2), and every head attends to the same rows. A prompt, before which nothing is stored, is attended to
  // in the first form either way, which is less work for many rows.
  Var operator()(ForwardContext& context, const Var& x, const RopeTable* rope) const;

  // Each rank has some heads; latent rows are made where the rows of the residual stream are, then every rank reads all
  // of them.
  void split_heads(const TensorParallel& tp);
  // Each rank has some rows of every sequence.
  void split_sequences(const ContextParallel& cp) { cp_ = &cp; }

  // As NAME (models/parts/attention_scores.h).
  void watch_scores() { watch_.on = true; }
  AttentionLayer description() const;

 private:
  struct Rows {
    Var q, latent, k_rope;
  };
  Rows make_rows(ForwardContext& context, const Var& x) const;
  Var attend(ForwardContext& context, const Rows& rows, const RopeTable& rope) const;
  Var attend_cached(ForwardContext& context, const Rows& rows, const RopeTable& rope) const;

  LatentHeads heads_;  // of this rank
  AttentionShape shape_;
  int64_t query_rank_, latent_rank_;
  int layer_;
  ScoreWatch watch_;
  Dense down_;
  std::optional<OutputNorm> q_norm_;
  OutputNorm kv_norm_;
  Dense q_up_, kv_up_, out_;
  const TensorParallel* tp_ = nullptr;
  const ContextParallel* cp_ = nullptr;
};

}  // namespace deepflow
