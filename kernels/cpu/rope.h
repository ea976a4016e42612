#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// Rotates in place pairs (j, j + head_dim / 2) of the first num_heads heads of each row. T: float, BF16, F16.
template <class T>
struct RopeRows {
  T* x;
  int64_t ld, num_heads, head_dim;
  const int32_t* positions;  // [rows]
  const float *cos, *sin;    // [positions, head_dim / 2]
  float sign;                // 1: forward, -1: back
};

DF_DECLARE_KERNELS(template <class T> void rope(const RopeRows<T>& a, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
