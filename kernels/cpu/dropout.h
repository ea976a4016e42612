#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// y[r, c] = x[r, c] * scale where the random word of (row_ids[r], c), as core/random.h has it, is at least `threshold`
// in its upper 24 bits; 0 elsewhere. Contiguous rows; y may be x. T: float, BF16, F16.
template <class T>
struct DropoutRows {
  const T* x;
  T* y;
  int64_t cols;
  const int64_t* row_ids;
  uint64_t key, step;  // of the RandomSite
  uint32_t threshold;
  float scale;
};

DF_DECLARE_KERNELS(template <class T> void dropout(const DropoutRows<T>& a, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
