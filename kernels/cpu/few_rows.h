#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// y [rows, n] = x [rows, k] W (+ bias f32 [n]) for at most kFewRows rows, W packed in panels of kPanelColumns columns:
// panel p holds columns 64 p .. 64 p + 63 as [steps][64][depth], where a step is `depth` rows of W (bf16: 2, f32: 1)
// and rows beyond k are zero. The sum of an element runs over k in order, so it depends on its row and column alone,
// not on how many rows or panels are computed beside it.
constexpr int64_t kFewRows = 16;
constexpr int64_t kPanelColumns = 64;

struct FewRows {
  const void* x;
  int64_t ld_x, rows, k;
  const void* panels;
  int64_t panel_bytes;  // from one panel to the next
  int64_t n;
  const float* bias;  // or null
  void* y;
  DType y_dtype;  // f32 or bf16
  int64_t ld_y;
};

// Panels [begin, end). T: dtype of x and W, float or BF16.
DF_DECLARE_KERNELS(template <class T> void few_rows(const FewRows& a, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
