#pragma once

#include "core/context.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// Losses of a router that a layer adds to the model's. All are defined for each sequence or token, never for a
// micro-batch, so that their sum does not depend on how the batch is split.

// The balance loss: sum over sequences of weight * E sum_e f_e P_e, which is `weight` times the number of sequences
// when all experts are equally loaded. f_e is the share of the sequence's choices that fell on expert e, P_e the mean
// of its scores, each token's divided by their sum where `normalise` (Fedus et al. 2021, section 2.2, with the softmax;
// DeepSeek-V3, section 2.1.2, equations 17 to 20, with the sigmoid). Gradient to the scores only. In two parts, because
// of a sequence whose rows are on several ranks each knows all choices, and some of the scores.
//
// What a score in each sequence counts: f32 [sequences, E]. expert i32 [sequences * sequence, choices] of all rows of
// whole sequences, none of them dropped.
Tensor balance_slopes(ForwardContext& context, const Tensor& expert, int64_t sequence, int64_t num_experts,
                      float weight);
// The sum over the rows that are here, f32 [1]. scores f32 [M, E]: sequence b has rows [begin[b], begin[b + 1]).
Var balance_loss(ForwardContext& context, const Var& scores, const Tensor& slopes, std::vector<int64_t> begin,
                 bool normalise);

// Sum over tokens of weight * (log sum_e exp(logit_e))^2 (Zoph et al. 2022, section 3.3). logits f32 [M, E]. f32 [1].
Var router_z_loss(ForwardContext& context, const Var& logits, float weight);

}  // namespace deepflow
