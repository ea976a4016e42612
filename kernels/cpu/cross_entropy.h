#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// One row of logits, f32, bf16 or f16; the softmax runs over its first `vocabulary` columns.
// log_sum_exp: NaN for a row with NaN or +infinity, or with nothing but -infinity.
// cross_entropy_gradient: overwrites the row with weight * (softmax - onehot(label)); zero from `vocabulary` on.
// Label -1: it is none of these columns.
DF_DECLARE_KERNELS(float log_sum_exp(const void* logits, DType dtype, int64_t vocabulary);
                   void cross_entropy_gradient(void* logits, DType dtype, int64_t vocabulary, int64_t physical,
                                               float log_sum_exp, int64_t label, float weight);)

}  // namespace deepflow::cpu
