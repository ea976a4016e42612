#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// f32 matrices [rows, experts]. With `normalise` a row of scores is divided by its sum.
// add_scores: sums [experts] += the rows.
// balance_backward: the gradient of sum(slope * scores as above) to every row.
// z_loss_backward: rows [begin, end) of dlogits = factor * log_sums[row] * softmax(logits[row]).
DF_DECLARE_KERNELS(void add_scores(const float* scores, int64_t experts, int64_t rows, bool normalise, float* sums);
                   void balance_backward(const float* scores, const float* slope, int64_t experts, int64_t rows,
                                         bool normalise, float* dscores);
                   void z_loss_backward(const float* logits, const float* log_sums, float factor, float* dlogits,
                                        int64_t experts, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
