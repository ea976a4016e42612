#pragma once

#include "kernels/ops/attention.h"
#include "kernels/ops/rope.h"
#include "models/parts/attention_scores.h"
#include "models/parts/dense.h"
#include "models/parts/norm.h"

#include <optional>
#include <string>

namespace deepflow {

// Vaswani et al. 2017, section 3.2, causal; with fewer key heads than query heads grouped-query attention (Ainslie et
// al. 2023). Parameters: NAME.q, NAME.k, NAME.v (one pack), with qk_norm NAME.q_norm and NAME.k_norm, and NAME.out.
class SelfAttention {
 public:
  struct Options {
    int64_t width = 0;
    int64_t heads = 1, kv_heads = 1, head_dim = 64;
    bool qkv_bias = false, out_bias = false;
    std::optional<float> qk_norm_eps;  // queries and keys are normed (QueryKeyNorm)
    float scale = 0;                   // of scores; 0: 1 / sqrt(head_dim)
    float softcap = 0;                 // of scores; 0: none (AttentionShape)
    int64_t window = 0;                // sliding window; 0: none (AttentionShape)
    float stddev = 0.02f, out_stddev = 0.02f;
    int layer = 0;  // which part of the key-value cache is this layer's
  };
  SelfAttention(ParameterRegistry& registry, const std::string& name, const Options& options);

  // x [M, width] -> [M, width], both compute dtype. `rope` may be null (learned positions). With context.cache the
  // call's keys and values are appended to it; the caller advances the cache after the last layer.
  Var operator()(ForwardContext& context, const Var& x, const RopeTable* rope) const;

  // Each rank has some heads. Key heads that are fewer than ranks live on several.
  void split_heads(const TensorParallel& tp);
  // Each rank has some rows of every sequence.
  void split_sequences(const ContextParallel& cp) { cp_ = &cp; }

  // As NAME (models/parts/attention_scores.h). Biases belong to the rows.
  void watch_scores() { watch_.on = true; }
  AttentionLayer description() const;

 private:
  Var attend(ForwardContext& context, const Var& qkv) const;

  AttentionShape shape_;  // heads of this rank
  const ContextParallel* cp_ = nullptr;
  int layer_;
  ScoreWatch watch_;
  Dense qkv_;
  std::optional<QueryKeyNorm> qk_norm_;
  Dense out_;
};

}  // namespace deepflow
