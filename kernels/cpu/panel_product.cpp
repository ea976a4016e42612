#include "kernels/cpu/panel_product.h"

#include "kernels/cpu/panel_step.h"
#include "kernels/cpu/weight_panels.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kPanelColumns = 64;
// The tile whose sums stay in registers, beside a strip of B and an element of A.
constexpr int kTileRows = 6;
constexpr int kStrip = kLanes == 16 ? 4 : 2;
constexpr int64_t kStripColumns = kStrip * kLanes;

template <int kRows>
struct Tile {
  F32 sum[kRows][kStrip];
};

template <int kRows, class T>
DF_SIMD Tile<kRows> multiply(const T* a, int64_t a_row, int64_t a_step, const T* b, int64_t steps) {
  Tile<kRows> t;
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kStrip; ++i) t.sum[r][i] = zero();
  for (int64_t step = 0; step < steps; ++step) {
    for (int r = 0; r < kRows; ++r) {
      const auto x = splat_x(a + r * a_row);
      for (int i = 0; i < kStrip; ++i) t.sum[r][i] = multiply_add(b + i * kLanes * kDepth<T>, x, t.sum[r][i]);
    }
    a += a_step;
    b += kPanelColumns * kDepth<T>;
  }
  return t;
}

template <int kRows, class Y, class Lanes>
DF_SIMD void store_vector(const Tile<kRows>& t, int i, Y* c, int64_t ld, bool accumulate, Lanes lanes) {
  for (int r = 0; r < kRows; ++r) {
    Y* to = c + r * ld + i * kLanes;
    store(to, accumulate ? load(to, lanes) + t.sum[r][i] : t.sum[r][i], lanes);
  }
}

template <int kRows, class Y>
DF_SIMD void store_tile(const Tile<kRows>& t, int64_t columns, Y* c, int64_t ld, bool accumulate) {
  for (int i = 0; i < kStrip; ++i) {
    const int64_t left = columns - i * kLanes;
    if (left >= kLanes)
      store_vector(t, i, c, ld, accumulate, AllLanes{});
    else if (left > 0)
      store_vector(t, i, c, ld, accumulate, left);
  }
}

template <int kRows, class T>
void compute_tile(const PanelProduct& p, int64_t row, int64_t column) {
  const Tile<kRows> t = multiply<kRows>(static_cast<const T*>(p.a) + row * p.a_row, p.a_row, p.a_step,
                                        static_cast<const T*>(p.panel) + column * kDepth<T>, p.steps);
  const int64_t at = row * p.ld_c + column, columns = p.columns - column;
  if (p.c_dtype == DType::kF32)
    store_tile(t, columns, static_cast<float*>(p.c) + at, p.ld_c, p.accumulate);
  else
    store_tile(t, columns, static_cast<BF16*>(p.c) + at, p.ld_c, false);
}

template <class T>
void compute_last_tile(const PanelProduct& p, int64_t row, int64_t column) {
  switch (p.rows - row) {
    case 1:
      return compute_tile<1, T>(p, row, column);
    case 2:
      return compute_tile<2, T>(p, row, column);
    case 3:
      return compute_tile<3, T>(p, row, column);
    case 4:
      return compute_tile<4, T>(p, row, column);
    case 5:
      return compute_tile<5, T>(p, row, column);
    default:
      return;
  }
}

void pack(const float* x, int64_t ld, int64_t rows, int64_t cols, float* to, int64_t step) {
  for (int64_t r = 0; r < rows; ++r)
    __builtin_memcpy(to + r * step, x + r * ld, static_cast<size_t>(cols) * sizeof(float));
}

void pack(const BF16* x, int64_t ld, int64_t rows, int64_t cols, BF16* to, int64_t step) {
  for (int64_t r = 0; r + 2 <= rows; r += 2) write_row_pair(x + r * ld, ld, cols, to + r / 2 * step, 2 * kPanelColumns);
  if (rows % 2 == 0) return;
  const BF16* last = x + (rows - 1) * ld;
  for (int64_t c = 0; c < cols; ++c) {
    to[rows / 2 * step + 2 * c] = last[c];
    to[rows / 2 * step + 2 * c + 1] = BF16{};
  }
}

}  // namespace

template <class T>
void panel_product(const PanelProduct& p) {
  for (int64_t column = 0; column < p.columns; column += kStripColumns) {
    int64_t row = 0;
    for (; row + kTileRows <= p.rows; row += kTileRows) compute_tile<kTileRows, T>(p, row, column);
    compute_last_tile<T>(p, row, column);
  }
}

template <class T>
void pack_steps(const T* x, int64_t ld, int64_t rows, int64_t cols, T* to, int64_t step) {
  pack(x, ld, rows, cols, to, step);
}

template void panel_product<float>(const PanelProduct&);
template void panel_product<BF16>(const PanelProduct&);
template void pack_steps<float>(const float*, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_steps<BF16>(const BF16*, int64_t, int64_t, int64_t, BF16*, int64_t);

}  // namespace deepflow::cpu::DF_ISA
