#include "kernels/cpu/int8_matmul.h"
#include "kernels/cpu/int8_vector.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int32_t kMagnitude = 0x7fffffff, kNotFinite = 0x7f800000;
constexpr float kSmallest = 1e-30f;  // the inverse of a smaller scale could overflow

// Of a block whose largest magnitude has these bits. As integers magnitudes are in order, and NaN is above all.
struct Scale {
  float scale, inverse;
};
DF_SIMD Scale scale_of(int32_t largest_bits) {
  if (largest_bits >= kNotFinite) return {__builtin_nanf(""), 0};
  float largest;
  __builtin_memcpy(&largest, &largest_bits, sizeof(largest));
  if (largest < kSmallest) return {0, 0};
  return {largest / 127.0f, 127.0f / largest};
}

template <class T>
DF_SIMD Scale scale_of_run(const T* x, int64_t n) {
  I32 largest = splat_i32(0);
  for_each_vector(
      n, [&](int64_t j, auto lanes) { largest = max(largest, bits_of(load(x + j, lanes)) & splat_i32(kMagnitude)); });
  return scale_of(reduce_max(largest));
}

// Bytes round(x * inverse) + offset, a whole number of vectors of them: q has room for it.
template <class T>
DF_SIMD void quantize_run(const T* x, int64_t n, float inverse, int32_t offset, uint8_t* q) {
  const F32 factor = splat(inverse);
  const I32 shift = splat_i32(offset);
  for_each_vector(
      n, [&](int64_t j, auto lanes) { store_bytes(q + j, round_to_i32(load(x + j, lanes) * factor) + shift); });
}

struct BlockToFill {
  float* scales;
  int32_t* sums;
  int32_t* q;  // groups of four bytes
};
DF_SIMD BlockToFill block_at(uint8_t* panel, int64_t block) {
  uint8_t* p = panel + block * (kInt8PanelHeader + kInt8Block * kInt8Panel);
  return {reinterpret_cast<float*>(p), reinterpret_cast<int32_t*>(p) + kInt8Panel,
          reinterpret_cast<int32_t*>(p + kInt8PanelHeader)};
}

DF_SIMD void quantize_column_of_rows(const float* w, int64_t length, const BlockToFill& block, int64_t column) {
  alignas(64) uint8_t q[kInt8Block] = {};
  const Scale s = scale_of_run(w, length);
  quantize_run(w, length, s.inverse, 0, q);
  block.scales[column] = s.scale;
  int32_t sum = 0;
  for (int64_t l = 0; l < kInt8Block; ++l) sum += static_cast<int8_t>(q[l]);
  block.sums[column] = -128 * sum;
  for (int64_t l = 0; l * 4 < length; ++l) __builtin_memcpy(block.q + l * kInt8Panel + column, q + l * 4, 4);
}

// Columns that lie side by side; `lanes` is what exists of them.
template <class Lanes>
DF_SIMD void quantize_columns(const float* w, int64_t length, int64_t ld, const BlockToFill& block, int64_t column,
                              Lanes lanes) {
  I32 largest = splat_i32(0);
  for (int64_t l = 0; l < length; ++l) largest = max(largest, bits_of(load(w + l * ld, lanes)) & splat_i32(kMagnitude));
  alignas(64) int32_t bits[kLanes];
  alignas(64) float inverse[kLanes];
  store_i32(bits, largest);
  for (int64_t j = 0; j < kLanes; ++j) {
    const Scale s = scale_of(bits[j]);
    block.scales[column + j] = s.scale;
    inverse[j] = s.inverse;
  }
  const F32 factor = load(inverse);
  I32 sum = splat_i32(0);
  const auto quantized = [&](int64_t l) {
    if (l >= length) return splat_i32(0);
    const I32 q = round_to_i32(load(w + l * ld, lanes) * factor);
    sum = sum + q;
    return q;
  };
  const I32 byte = splat_i32(0xff);
  for (int64_t l = 0; l < length; l += 4) {
    const I32 q0 = quantized(l), q1 = quantized(l + 1), q2 = quantized(l + 2), q3 = quantized(l + 3);
    const I32 low = (q0 & byte) | shift_left<8>(q1 & byte);
    store_i32(block.q + l / 4 * kInt8Panel + column, low | shift_left<16>(q2 & byte) | shift_left<24>(q3));
  }
  store_i32(block.sums + column, shift_left<7>(splat_i32(0) - sum));
}

// Columns that do not exist, in all groups of a block.
DF_SIMD void clear_columns(int64_t length, const BlockToFill& block, int64_t first) {
  for (int64_t j = first; j < kInt8Panel; ++j) {
    block.scales[j] = 0;
    block.sums[j] = 0;
    for (int64_t l = 0; l * 4 < length; ++l) block.q[l * kInt8Panel + j] = 0;
  }
}

}  // namespace

void quantize_int8_rows(const BF16* x, int64_t rows, int64_t k, int64_t ld, uint8_t* q, float* scales) {
  const int64_t ldq = int8_row_bytes(k), num_blocks = num_int8_blocks(k);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t b = 0; b < num_blocks; ++b) {
      const int64_t begin = b * kInt8Block, length = k - begin < kInt8Block ? k - begin : kInt8Block;
      const Scale s = scale_of_run(x + i * ld + begin, length);
      scales[i * num_blocks + b] = s.scale;
      quantize_run(x + i * ld + begin, length, s.inverse, 128, q + i * ldq + begin);
    }
}

void quantize_int8_panel_of_rows(const float* w, int64_t columns, int64_t k, int64_t ld, uint8_t* panel) {
  for (int64_t b = 0; b < num_int8_blocks(k); ++b) {
    const int64_t begin = b * kInt8Block, length = k - begin < kInt8Block ? k - begin : kInt8Block;
    const BlockToFill block = block_at(panel, b);
    for (int64_t j = 0; j < columns; ++j) quantize_column_of_rows(w + j * ld + begin, length, block, j);
    clear_columns(length, block, columns);
  }
}

void quantize_int8_panel_of_columns(const float* w, int64_t columns, int64_t k, int64_t ld, uint8_t* panel) {
  for (int64_t b = 0; b < num_int8_blocks(k); ++b) {
    const int64_t begin = b * kInt8Block, length = k - begin < kInt8Block ? k - begin : kInt8Block;
    const BlockToFill block = block_at(panel, b);
    const float* first = w + begin * ld;
    for_each_vector(columns, [&](int64_t j, auto lanes) { quantize_columns(first + j, length, ld, block, j, lanes); });
    clear_columns(length, block, columns);
  }
}

}  // namespace deepflow::cpu::DF_ISA
