#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// RMS norm of `groups` runs of `cols` neighbouring columns in every row, all with the same gain + gain_offset. Pointers
// are at the first run of the first row; ld: elements from one row to the next. T: float, BF16, F16.
template <class T>
struct GroupNormForward {
  const T* x;
  T* y;     // may be x
  T* kept;  // a copy of x; null: not wanted
  int64_t ld_x, ld_y, ld_kept;
  const float* gain;  // [cols]
  float gain_offset, eps;
  int64_t groups, cols;
};

// The inverse root mean squares are made again from x: cheaper than to keep them.
template <class T>
struct GroupNormBackward {
  const T *x, *dy;
  T* dx;  // may be dy
  int64_t ld_x, ld_dy, ld_dx;
  const float* gain;
  float gain_offset, eps;
  int64_t groups, cols;
  float* partial;  // the caller's rows' share of dgain [cols]; set, not added to
};

DF_DECLARE_KERNELS(template <class T>
                   void group_rms_norm_forward(const GroupNormForward<T>& a, int64_t begin, int64_t end);
                   template <class T>
                   void group_rms_norm_backward(const GroupNormBackward<T>& a, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
