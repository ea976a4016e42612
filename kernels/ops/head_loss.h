#pragma once

#include "core/context.h"

namespace deepflow {

struct LossResult {
  Var loss;    // f32 [1]: sum over rows of weight * negative log-likelihood (natural logarithm)
  Tensor nll;  // f32 [M]: of every row with a label, 0 where masked
};

// Vocabulary head and softmax cross-entropy in one op. x [M, D] compute dtype; head pack [V, D] (physical rows padded;
// padding never enters the softmax); labels i32 [M], -1: masked; weights f32 [M]: what each row's loss counts (1 /
// number of unmasked tokens of the whole step, so that nothing divides later; 0: not at all). Throws DataError for a
// label outside -1 .. V-1. With softcap c > 0 logits are c * tanh(x W^T / c) (Gemma 2). A logit that is not finite
// makes the loss not finite.
//
// Logits exist only for a chunk of tokens at a time in f32 and f16, and backward computes them again: with the input
// gradient the weight gradient is accumulated chunk by chunk, so all of it happens in backward_input. In bf16 they are
// overwritten by their gradient and kept for one weight-gradient GEMM (B x T x V bf16); without a tape a chunk is
// enough.
LossResult head_loss(ForwardContext& context, const Var& x, Pack& head, const Tensor& labels, const Tensor& weights,
                     float softcap = 0);

// Logits f32 [M, V] (logical columns only; rows lie the padded columns apart), no tape: probing and sampling.
Tensor head_logits(ForwardContext& context, const Tensor& x, Pack& head, float softcap = 0);

}  // namespace deepflow
