#pragma once

#include "core/context.h"
#include "core/parameter_registry.h"
#include "kernels/ops/head_loss.h"
#include "parallel/tensor_parallel.h"

#include <string>

namespace deepflow {

// One row per token, and where the family learns positions one per position.
class TokenEmbedding {
 public:
  struct Options {
    int64_t vocabulary = 0, width = 0;
    int64_t positions = 0;  // learned ones; 0: none
    float stddev = 0.02f;
    float scale = 1;  // multiplies the rows that are read
  };
  // Declares embedding.weight [vocabulary, width] and positions.weight [positions, width].
  TokenEmbedding(ParameterRegistry& registry, const Options& options);
  // Tokens i32 [M] to the residual stream f32 [M, width]; split over rows of the stream: this rank's.
  Var operator()(ForwardContext& context, const Tensor& tokens) const;

  // Every rank keeps part of the vocabulary; positions stay whole.
  void split_vocabulary(const TensorParallel& tp);
  Pack* table() const { return table_; }
  // A forward pass reads it once more (multi-token prediction).
  void read_again(ParameterRegistry& registry) { registry.use_again(table_); }

 private:
  Pack* table_;
  Pack* positions_ = nullptr;
  float scale_;
  const TensorParallel* tp_ = nullptr;
};

// Logits and loss. Its own matrix head.weight [vocabulary, width], or the embedding's again (Press & Wolf 2017).
class VocabularyHead {
 public:
  struct Options {
    int64_t vocabulary = 0, width = 0;
    float stddev = 0.02f;
    float softcap = 0;  // c > 0: logits are c * tanh(x W^T / c)
  };
  VocabularyHead(ParameterRegistry& registry, const Options& options, Pack* tied_to);
  // A forward pass reads it once more (multi-token prediction).
  void read_again(ParameterRegistry& registry) { registry.use_again(weight_); }
  LossResult loss(ForwardContext& context, const Var& x, const Tensor& labels, const Tensor& weights) const;
  Tensor logits(ForwardContext& context, const Tensor& x) const;  // f32 [M, vocabulary], no tape

  void split_vocabulary(const TensorParallel& tp);

 private:
  Pack* weight_;
  float softcap_;
  const TensorParallel* tp_ = nullptr;
};

}  // namespace deepflow
