#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// Runs of n neighbouring elements; dtypes f32, bf16 and f16. Runs may not overlap unless they are the
// same.
DF_DECLARE_KERNELS(void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t n);
                   void accumulate(void* into, DType into_dtype, const void* x, DType x_dtype, int64_t n);
                   void scale(void* x, DType dtype, int64_t n, float factor);
                   void fill(void* x, DType dtype, int64_t n, float value);
                   double sum_squares(const float* x, int64_t n);  // squares and sums in f64
                   bool all_finite(const void* x, DType dtype, int64_t n);)

}  // namespace deepflow::cpu
