#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// One row of logits, f32, bf16 or f16; the softmax runs over its first `vocabulary` columns.
// soften: overwrites the first `vocabulary` columns x with cap * tanh(x / cap).
// log_sum_exp: NaN for a row with NaN or +infinity, or with nothing but -infinity.
// cross_entropy_gradient: overwrites the row with weight * (softmax - onehot(label)), for softcap > 0, whose row is
// softened, times the slope 1 - (x / softcap)^2 of that; zero from `vocabulary` on.
// Label -1: it is none of these columns.
DF_DECLARE_KERNELS(float log_sum_exp(const void* logits, DType dtype, int64_t vocabulary);
                   void cross_entropy_gradient(void* logits, DType dtype, int64_t vocabulary, int64_t physical,
                                               float log_sum_exp, int64_t label, float weight, float softcap);
                   void soften(void* logits, DType dtype, int64_t vocabulary, float cap);)

}  // namespace deepflow::cpu
