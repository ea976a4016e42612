#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// sums[j] (+)= sum over rows of x[row * ld + j], j < cols; x f32, bf16 or f16. The order of additions depends on
// `rows` alone.
DF_DECLARE_KERNELS(void column_sums(const void* x, DType dtype, int64_t rows, int64_t ld, int64_t cols, float* sums,
                                    bool accumulate);)

}  // namespace deepflow::cpu
