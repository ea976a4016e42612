#pragma once

#include "core/stream.h"

#include <cstdint>

namespace deepflow::cuda {

// sums[j] (+)= sum over rows of x[row * ld + j], j < cols, as kernels/cpu/matmul.h; T: float, BF16. The order of
// additions depends on `rows` alone. partial: scratch of column_sums_parts(rows) * cols floats, null when that is 0.
template <class T>
void column_sums(const T* x, int64_t rows, int64_t ld, int64_t cols, float* partial, float* sums, bool accumulate,
                 Stream& stream);
int64_t column_sums_parts(int64_t rows);

}  // namespace deepflow::cuda
