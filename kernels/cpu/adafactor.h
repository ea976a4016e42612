#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// kernels/ops/adafactor.h; n neighbouring elements of a row. add_squares: sums[j] += (scale g[j])^2. The directions
// replace the gradient and return the sum of their squares.
DF_DECLARE_KERNELS(void add_squares(const float* g, float scale, float* sums, int64_t n);
                   float factored_direction(float row, const float* col, float* g, int64_t n);
                   float vector_direction(float one_minus_beta2, float scale, float eps, float* v, float* g,
                                          int64_t n);)

}  // namespace deepflow::cpu
