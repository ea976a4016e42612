#pragma once

#include "core/stream.h"
#include "kernels/cpu/norm_rows.h"

#include <cstdint>

namespace deepflow::cuda {

constexpr int64_t kMaxNormCols = 32768;

// kernels/cpu/rms_norm.h for all rows of device matrices, enqueued on the stream. T: float, BF16. `cols` up to
// kMaxNormCols.
template <class T>
void rms_norm_forward(const cpu::NormForward<T>& a, int64_t rows, Stream& stream);

// Also dgain [cols] (+)= the sum of the rows' shares, in an order that depends on `rows` alone. a.partial: scratch of
// rms_norm_parts(rows) * cols floats.
template <class T>
void rms_norm_backward(const cpu::NormBackward<T>& a, int64_t rows, float* dgain, bool accumulate, Stream& stream);
int64_t rms_norm_parts(int64_t rows);

}  // namespace deepflow::cuda
