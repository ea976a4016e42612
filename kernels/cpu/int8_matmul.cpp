#include "kernels/cpu/int8_matmul.h"

#include "kernels/cpu/int8_vector.h"

namespace deepflow::cpu::DF_ISA {
namespace {

// Rows whose f32 sums stay in the first-level cache beside a block of a panel.
constexpr int64_t kRowChunk = 48;

struct BlockOfPanel {
  const float* scales;
  const int32_t* sums;
  const uint8_t* q;
  int64_t k4;  // groups of four along k
};

// acc [kRows, kVectors * kLanes] += one block's product. Everything is scaled before it is added: the sums of a block
// are exact, so the order within it is no matter.
template <class Dot, int kRows, int kVectors>
DF_SIMD void multiply_tile(const uint8_t* q, int64_t ldq, const float* row_scales, int64_t num_blocks,
                           const BlockOfPanel& b, int64_t column, float* acc) {
  I32 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const I32 start = load_i32(b.sums + column + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) sum[i][v] = start;
  }
  const uint8_t* right = b.q + column * 4;
  for (int64_t l = 0; l < b.k4; ++l, right += kInt8Panel * 4) {
    I32 w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) w[v] = load_i32(right + v * kLanes * 4);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      int32_t four;
      __builtin_memcpy(&four, q + i * ldq + l * 4, sizeof(four));
      const I32 left = splat_i32(four);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[i][v] = Dot::add(sum[i][v], left, w[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const F32 row_scale = splat(row_scales[i * num_blocks]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* a = acc + i * kInt8Panel + v * kLanes;
      const F32 scale = row_scale * load(b.scales + column + v * kLanes);
      store(a, fma(float_of(sum[i][v]), scale, load(a)));
    }
  }
}

template <class Dot, int kRows>
DF_SIMD void multiply_panel_rows(const uint8_t* q, int64_t ldq, const float* row_scales, int64_t num_blocks,
                                 const BlockOfPanel& b, float* acc) {
  // As many registers as the products leave free.
#ifdef __AVX512F__
  constexpr int kVectors = __is_same(Dot, PlainDot) ? 2 : 4;
#else
  constexpr int kVectors = 1;
#endif
  for (int64_t column = 0; column < kInt8Panel; column += kVectors * kLanes)
    multiply_tile<Dot, kRows, kVectors>(q, ldq, row_scales, num_blocks, b, column, acc + column);
}

template <class Dot>
DF_SIMD void multiply_block(const uint8_t* q, int64_t ldq, const float* row_scales, int64_t num_blocks, int64_t rows,
                            const BlockOfPanel& b, float* acc) {
  const auto left = [&](int64_t i) { return q + i * ldq; };
  const auto scales = [&](int64_t i) { return row_scales + i * num_blocks; };
  int64_t i = 0;
  for (; i + 6 <= rows; i += 6)
    multiply_panel_rows<Dot, 6>(left(i), ldq, scales(i), num_blocks, b, acc + i * kInt8Panel);
  for (; i + 3 <= rows; i += 3)
    multiply_panel_rows<Dot, 3>(left(i), ldq, scales(i), num_blocks, b, acc + i * kInt8Panel);
  for (; i < rows; ++i) multiply_panel_rows<Dot, 1>(left(i), ldq, scales(i), num_blocks, b, acc + i * kInt8Panel);
}

DF_SIMD void start_sums(float* acc, int64_t rows, int64_t columns, const float* bias) {
  float first[kInt8Panel] = {};
  for (int64_t j = 0; bias && j < columns; ++j) first[j] = bias[j];
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < kInt8Panel; j += kLanes) store(acc + i * kInt8Panel + j, load(first + j));
}

DF_SIMD void store_sums(const float* acc, int64_t rows, int64_t columns, BF16* y, int64_t ldy) {
  for (int64_t i = 0; i < rows; ++i)
    for_each_vector(
        columns, [&](int64_t j, auto lanes) { store(y + i * ldy + j, load(acc + i * kInt8Panel + j, lanes), lanes); });
}

template <class Dot>
void multiply(const uint8_t* q, const float* scales, int64_t rows, int64_t k, const uint8_t* panels, int64_t columns,
              const float* bias, BF16* y, int64_t ldy) {
  alignas(64) float acc[kRowChunk * kInt8Panel];
  const int64_t ldq = int8_row_bytes(k), num_blocks = num_int8_blocks(k);
  for (int64_t j = 0; j < columns; j += kInt8Panel, panels += int8_panel_bytes(k)) {
    const int64_t width = columns - j < kInt8Panel ? columns - j : kInt8Panel;
    for (int64_t first = 0; first < rows; first += kRowChunk) {
      const int64_t n = rows - first < kRowChunk ? rows - first : kRowChunk;
      start_sums(acc, n, width, bias ? bias + j : nullptr);
      const uint8_t* block = panels;
      for (int64_t b = 0; b < num_blocks; ++b) {
        const int64_t length = k - b * kInt8Block < kInt8Block ? k - b * kInt8Block : kInt8Block;
        const BlockOfPanel right{reinterpret_cast<const float*>(block),
                                 reinterpret_cast<const int32_t*>(block) + kInt8Panel, block + kInt8PanelHeader,
                                 (length + 3) / 4};
        multiply_block<Dot>(q + first * ldq + b * kInt8Block, ldq, scales + first * num_blocks + b, num_blocks, n,
                            right, acc);
        block += kInt8PanelHeader + right.k4 * 4 * kInt8Panel;
      }
      store_sums(acc, n, width, y + first * ldy + j, ldy);
    }
  }
}

}  // namespace

void multiply_int8(const uint8_t* q, const float* scales, int64_t rows, int64_t k, const uint8_t* panels,
                   int64_t columns, const float* bias, BF16* y, int64_t ldy, [[maybe_unused]] bool vnni) {
#ifdef __AVX512F__
  if (vnni) {
    multiply<VnniDot>(q, scales, rows, k, panels, columns, bias, y, ldy);
    return;
  }
#endif
  multiply<PlainDot>(q, scales, rows, k, panels, columns, bias, y, ldy);
}

}  // namespace deepflow::cpu::DF_ISA
