#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// c [rows, columns] (+)= A B for one panel of B (kernels/cpu/few_rows.h: [steps][64][depth], depth 2 for bf16, 1 for
// f32), of which the first `columns` exist. A sum runs over the steps in order, whatever is computed beside it.
//
// A is given by strides in elements: what step s multiplies row r with are the `depth` neighbours at r * a_row + s *
// a_step. So a row-major A [rows, k] has a_row = ld, a_step = depth; the transpose of a matrix that `pack_steps` has
// written has a_row = depth, a_step = its step.
struct PanelProduct {
  const void* a;
  int64_t a_row, a_step;
  int64_t rows, steps;
  const void* panel;
  int64_t columns;
  void* c;
  DType c_dtype;  // f32 or bf16
  int64_t ld_c;
  bool accumulate;  // into c, which is f32
};

// T: dtype of A and B, float or BF16.
DF_DECLARE_KERNELS(template <class T> void panel_product(const PanelProduct& p);
                   // Rows of x [rows, cols] as steps of the sum: to [steps][cols][depth], `step` elements from one to
                   // the next; a last row without partner is paired with zeros. bf16: cols a multiple of 64.
                   template <class T>
                   void pack_steps(const T* x, int64_t ld, int64_t rows, int64_t cols, T* to, int64_t step);)

}  // namespace deepflow::cpu
