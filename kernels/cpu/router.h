#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

constexpr int64_t kMostChoices = 64, kMostGroups = 64;

// How experts are picked (kernels/ops/router.h). choices <= experts of the top groups.
struct ExpertSelection {
  int64_t experts, groups, group_best, top_groups, choices;
};

// Rows [begin, end) of f32 matrices [rows, experts]. A row of logits with a NaN or +infinity has NaN scores.
// dlogits may be dscores.
DF_DECLARE_KERNELS(void softmax_scores(const float* logits, float* scores, int64_t experts, int64_t begin, int64_t end);
                   void sigmoid_scores(const float* logits, float* scores, int64_t experts, int64_t begin, int64_t end);
                   void softmax_scores_backward(const float* scores, const float* dscores, float* dlogits,
                                                int64_t experts, int64_t begin, int64_t end);
                   void sigmoid_scores_backward(const float* scores, const float* dscores, float* dlogits,
                                                int64_t experts, int64_t begin, int64_t end);)

// expert: [rows, choices], by falling score + bias (may be null), equal ones by rising index; different ones in every
// row, whatever the scores: NaN counts as -infinity.
// router_weights: [rows, choices], the scores of the chosen; with `normalise` divided by their sum; times scale.
// router_weights_backward overwrites dscores [rows, experts].
DF_DECLARE_KERNELS(void select_experts(const float* scores, const float* bias, const ExpertSelection& selection,
                                       int32_t* expert, int64_t begin, int64_t end);
                   void router_weights(const float* scores, const int32_t* expert, int64_t experts, int64_t choices,
                                       bool normalise, float scale, float* weights, int64_t begin, int64_t end);
                   void router_weights_backward(const float* scores, const int32_t* expert, const float* dweights,
                                                int64_t experts, int64_t choices, bool normalise, float scale,
                                                float* dscores, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
