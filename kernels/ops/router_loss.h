#pragma once

#include "core/context.h"

namespace deepflow {

// Losses of a router that a layer adds to the model's. All are defined for each sequence or token, never for a
// micro-batch, so that their sum does not depend on how the batch is split. Sequences as in context.rows.

// Sum over sequences of weight * E sum_e f_e P_e, which is `weight` times the number of sequences when all experts are
// equally loaded. f_e is the share of the sequence's choices that fell on expert e, P_e the mean of its scores, each
// token's divided by their sum where `normalise` (Fedus et al. 2021, section 2.2, with the softmax; DeepSeek-V3,
// section 2.1.2, equations 17 to 20, with the sigmoid). Gradient to the scores only. scores f32 [M, E], expert
// i32 [M, choices], none of them dropped. f32 [1].
Var balance_loss(ForwardContext& context, const Var& scores, const Tensor& expert, bool normalise, float weight);

// Sum over tokens of weight * (log sum_e exp(logit_e))^2 (Zoph et al. 2022, section 3.3). logits f32 [M, E]. f32 [1].
Var router_z_loss(ForwardContext& context, const Var& logits, float weight);

}  // namespace deepflow
