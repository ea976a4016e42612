#pragma once

#include "core/parameter.h"
#include "core/runtime.h"

namespace deepflow {

// The packed forms of a bf16 weight [out, in] as memory that others may write: for every 64 columns of the product's
// second operand B [k, n] one panel [k / 2][64][2], the layout that oneDNN calls BA16a64b2a. B is W^T in kForward and W
// in kInputGrad. An optimizer that holds a tile of the master in its cache writes both there and then, which saves
// reading the master twice more.
//
// Of a grouped pack (core/parameter.h) `out` is that of one group, whose panels follow those of the group before; its
// rows are those of `members` parts, which are multiples of kPanelBlock and in the master lie member by member.
struct WeightPanels {
  int64_t out = 0, in = 0;
  BF16* forward = nullptr;
  BF16* input_grad = nullptr;
  int64_t groups = 1, members = 1;
  int64_t rows() const { return groups * out; }  // of the master
  bool any() const { return forward || input_grad; }
};

// Rows and columns of a tile are cut at multiples of it.
constexpr int64_t kPanelBlock = 64;

// Whether that is what packed_weight_bytes and pack_weight (kernels/ops/matmul.h) mean by this form here: oneDNN asked
// for this layout, and nothing of it is padding. Otherwise only pack_weight writes it.
bool lies_in_panels(Runtime& runtime, DType dtype, int64_t out, int64_t in, Form form);

// Rows [row, row + rows) and columns [col, col + cols) of the f32 master into the panels, on the calling thread, the
// same bits as pack_weight. row, col, cols: multiples of kPanelBlock; a last block of fewer rows is filled with zeros.
void write_panels(const Runtime& runtime, const float* master, const WeightPanels& panels, int64_t row, int64_t rows,
                  int64_t col, int64_t cols);
// A bf16 matrix x [rows, cols], any ld, as the second operand B = x of a product, in panels: the first writes what the
// second says is right for these extents. Rows even, cols a multiple of kPanelBlock.
void write_operand_panels(Runtime& runtime, const Tensor& x, BF16* panels);
bool operand_lies_in_panels(Runtime& runtime, int64_t rows, int64_t cols);
// All of the master, on all threads.
void write_panels(Runtime& runtime, const Tensor& master, const WeightPanels& panels);

}  // namespace deepflow
