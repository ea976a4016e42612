#include "kernels/ops/weight_panels.h"

#include "core/error.h"
#include "kernels/cpu/weight_panels.h"
#include "kernels/ops/gemm_cache.h"

#include <algorithm>

namespace deepflow {

bool operand_lies_in_panels(Runtime& runtime, int64_t rows, int64_t cols) {
  if (rows % 32 != 0 || cols % kPanelBlock != 0) return false;  // oneDNN pads k to 32
  GemmCache& cache = GemmCache::of(runtime);
  return cache.has_bf16() &&
         cache.panel_bytes(DType::kBF16, rows, cols) == rows * kPanelBlock * static_cast<int64_t>(sizeof(BF16));
}

void write_operand_panels(Runtime& runtime, const Tensor& x, BF16* panels) {
  auto* write_pair = DF_KERNEL(runtime.isa(), write_row_pair);
  const BF16* p = x.data<BF16>();
  runtime.pool().parallel_for(x.rows() / 2, 8, [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; ++pair)
      write_pair(p + 2 * pair * x.ld(), x.ld(), x.cols(), panels + pair * 2 * kPanelBlock, x.rows() * kPanelBlock);
  });
}

bool lies_in_panels(Runtime& runtime, DType dtype, int64_t out, int64_t in, Form form) {
  if (dtype != DType::kBF16 || out % kPanelBlock != 0 || in % kPanelBlock != 0) return false;
  return form == Form::kForward ? operand_lies_in_panels(runtime, in, out) : operand_lies_in_panels(runtime, out, in);
}

namespace {

// Where a row of the master lies: in the panels of which group, and in which of their rows.
struct GroupRow {
  int64_t group, row;
};
GroupRow place_of(const WeightPanels& p, int64_t row) {
  if (p.groups == 1) return {0, row};
  const int64_t part = p.out / p.members;
  return {row / part % p.groups, row / (part * p.groups) * part + row % part};
}

}  // namespace

void write_panels(const Runtime& runtime, const float* master, const WeightPanels& p, int64_t row, int64_t rows,
                  int64_t col, int64_t cols) {
  DF_ASSERT(row % kPanelBlock == 0 && col % kPanelBlock == 0 && cols % kPanelBlock == 0, "tile at {}, {} of {} columns",
            row, col, cols);
  auto* write_block = DF_KERNEL(runtime.isa(), write_panel_block);
  for (int64_t r = row; r < row + rows; r += kPanelBlock) {
    const GroupRow at = place_of(p, r);
    BF16* forward = p.forward ? p.forward + (at.group * p.out + at.row) * p.in : nullptr;
    BF16* input_grad = p.input_grad ? p.input_grad + at.group * p.out * p.in + at.row * kPanelBlock : nullptr;
    for (int64_t c = col; c < col + cols; c += kPanelBlock)
      write_block(master + r * p.in + c, p.in, std::min(kPanelBlock, row + rows - r),
                  forward ? forward + c * kPanelBlock : nullptr, input_grad ? input_grad + c * p.out : nullptr);
  }
}

void write_panels(Runtime& runtime, const Tensor& master, const WeightPanels& p) {
  DF_ASSERT(master.rows() == p.rows() && master.cols() == p.in && master.is_contiguous(), "{} for [{}, {}]",
            master.shape().to_string(), p.rows(), p.in);
  const float* values = master.data<float>();
  runtime.pool().parallel_for(p.rows(), kPanelBlock, [&](int64_t begin, int64_t end) {
    write_panels(runtime, values, p, begin, end - begin, 0, p.in);
  });
}

}  // namespace deepflow
