#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

#include <cstdint>

// Products of int8 numbers that share a scale in blocks of kInt8Block along the summed dimension k. A block of a row of
// the left operand, or of a column of the right one, is q * scale with q in [-127, 127] and scale its largest magnitude
// over 127; blocks below 1e-30 are zero. A block with an element that is not finite has the scale NaN, so that whatever
// it touches is NaN. Sums within a block are exact (i32), those over blocks f32, in the order of k: every instruction
// set gives the same bits.
//
// Left operand: bytes q + 128, rows of int8_row_bytes(k), and f32 [rows, num_int8_blocks(k)] scales.
// Right operand: panels of kInt8Panel columns; in a panel, block after block: f32 scales [kInt8Panel], i32
// -128 * sum of q [kInt8Panel], then q as [k / 4][kInt8Panel][4], what is missing zero.
namespace deepflow::cpu {

constexpr int64_t kInt8Block = 256;
constexpr int64_t kInt8Panel = 64;
constexpr int64_t kInt8PanelHeader = 2 * 4 * kInt8Panel;  // bytes of scales and sums of a block

constexpr int64_t num_int8_blocks(int64_t k) { return (k + kInt8Block - 1) / kInt8Block; }
constexpr int64_t int8_row_bytes(int64_t k) { return (k + 63) / 64 * 64; }
constexpr int64_t int8_panel_bytes(int64_t k) {
  return num_int8_blocks(k) * kInt8PanelHeader + (k + 3) / 4 * 4 * kInt8Panel;
}

// quantize_int8_rows: x [rows, k], row stride ld.
// quantize_int8_panel_of_rows: a panel of x W^T. w: `columns` <= kInt8Panel rows of W, each k long, stride ld.
// quantize_int8_panel_of_columns: a panel of dy W. w: `columns` columns of W, k rows of it, stride ld.
// multiply_int8: y [rows, columns] = left * right + bias (f32 [columns] or null), row stride ldy. vnni: the CPU has
// AVX512_VNNI; ignored by avx2.
DF_DECLARE_KERNELS(
    void quantize_int8_rows(const BF16* x, int64_t rows, int64_t k, int64_t ld, uint8_t* q, float* scales);
    void quantize_int8_panel_of_rows(const float* w, int64_t columns, int64_t k, int64_t ld, uint8_t* panel);
    void quantize_int8_panel_of_columns(const float* w, int64_t columns, int64_t k, int64_t ld, uint8_t* panel);
    void multiply_int8(const uint8_t* q, const float* scales, int64_t rows, int64_t k, const uint8_t* panels,
                       int64_t columns, const float* bias, BF16* y, int64_t ldy, bool vnni);)

}  // namespace deepflow::cpu
