#include "kernels/cpu/few_rows.h"

#include "kernels/cpu/panel_step.h"

namespace deepflow::cpu::DF_ISA {
namespace {

// Steps whose weights (256 bytes each) stay in the L1 cache until all groups of rows have used them.
constexpr int64_t kChunkSteps = 32;
constexpr int64_t kStepBytes = 256;
constexpr int64_t kCacheLine = 64;
constexpr int64_t kGroupRows = 4;
constexpr int64_t kStrip = kLanes == 16 ? 4 : 2;  // vectors of columns whose sums stay in registers
constexpr int64_t kStripColumns = kStrip * kLanes;

// sums[kRows][kPanelColumns] += x times `steps` steps of one panel. Meanwhile kLines cache lines a step are asked for,
// from `ahead` on.
template <int kRows, int kLines, class T>
DF_SIMD void add_steps(const T* x, int64_t ld_x, const T* w, int64_t steps, const char* ahead, float* sums) {
  for (int64_t column = 0; column < kPanelColumns; column += kStripColumns) {
    F32 sum[kRows][kStrip];
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < kStrip; ++i) sum[r][i] = load(sums + r * kPanelColumns + column + i * kLanes);
    const T* strip = w + column * kDepth<T>;
    for (int64_t step = 0; step < steps; ++step) {
      for (int line = 0; line < kLines; ++line) __builtin_prefetch(ahead + line * kCacheLine, 0, 3);
      ahead += kLines * kCacheLine;
      for (int r = 0; r < kRows; ++r) {
        const auto factor = splat_x(x + r * ld_x + step * kDepth<T>);
        for (int i = 0; i < kStrip; ++i) sum[r][i] = multiply_add(strip + i * kLanes * kDepth<T>, factor, sum[r][i]);
      }
      strip += kPanelColumns * kDepth<T>;
    }
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < kStrip; ++i) store(sums + r * kPanelColumns + column + i * kLanes, sum[r][i]);
  }
}

template <int kLines, class T>
DF_SIMD void add_group(int64_t rows, const T* x, int64_t ld_x, const T* w, int64_t steps, const char* ahead,
                       float* sums) {
  if (rows == 1) add_steps<1, kLines>(x, ld_x, w, steps, ahead, sums);
  if (rows == 2) add_steps<2, kLines>(x, ld_x, w, steps, ahead, sums);
  if (rows == 3) add_steps<3, kLines>(x, ld_x, w, steps, ahead, sums);
  if (rows >= 4) add_steps<4, kLines>(x, ld_x, w, steps, ahead, sums);
}

// All groups of rows over `steps` steps. Together they ask for as many bytes of what follows as they read.
template <class T>
void add_chunk(const FewRows& a, const T* x, int64_t ld_x, const T* w, int64_t steps, float* sums) {
  const int64_t groups = (a.rows + kGroupRows - 1) / kGroupRows, bytes = steps * kStepBytes;
  const char* ahead = reinterpret_cast<const char*>(w) + bytes;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t row = group * kGroupRows, rows = a.rows - row < kGroupRows ? a.rows - row : kGroupRows;
    const T* mine = x + row * ld_x;
    float* to = sums + row * kPanelColumns;
    if (groups == 1) {
      add_group<4>(rows, mine, ld_x, w, steps, ahead, to);
    } else if (groups < 4 && group < 2) {
      add_group<2>(rows, mine, ld_x, w, steps, ahead + group * bytes / 2, to);
    } else {
      add_group<1>(rows, mine, ld_x, w, steps, ahead + group * bytes / 4, to);
    }
  }
}

// The last row of W where k is odd: its partner in the panel is zero, the one in x does not exist.
void add_last(const FewRows& a, const BF16* x, const BF16* w, float* sums) {
  BF16 pairs[kFewRows][2] = {};
  for (int64_t r = 0; r < a.rows; ++r) pairs[r][0] = x[r * a.ld_x];
  add_chunk(a, pairs[0], 2, w, 1, sums);
}
void add_last(const FewRows&, const float*, const float*, float*) {}

template <class Y>
DF_SIMD void finish_row(const float* sums, const float* bias, int64_t columns, Y* y) {
  for_each_vector(columns, [&](int64_t j, auto lanes) {
    const F32 sum = load(sums + j, lanes);
    store(y + j, bias ? sum + load(bias + j, lanes) : sum, lanes);
  });
}

}  // namespace

template <class T>
void few_rows(const FewRows& a, int64_t begin, int64_t end) {
  const int64_t steps = a.k / kDepth<T>;
  for (int64_t panel = begin; panel < end; ++panel) {
    alignas(64) float sums[kFewRows * kPanelColumns];
    for (int64_t j = 0; j < a.rows * kPanelColumns; j += kLanes) store(sums + j, zero());
    const T* x = static_cast<const T*>(a.x);
    const T* w = reinterpret_cast<const T*>(static_cast<const char*>(a.panels) + panel * a.panel_bytes);
    for (int64_t step = 0; step < steps; step += kChunkSteps) {
      const int64_t count = steps - step < kChunkSteps ? steps - step : kChunkSteps;
      add_chunk(a, x + step * kDepth<T>, a.ld_x, w + step * kPanelColumns * kDepth<T>, count, sums);
    }
    if (steps * kDepth<T> < a.k) add_last(a, x + a.k - 1, w + steps * kPanelColumns * kDepth<T>, sums);
    const int64_t first = panel * kPanelColumns, columns = a.n - first < kPanelColumns ? a.n - first : kPanelColumns;
    for (int64_t r = 0; r < a.rows; ++r) {
      const float* bias = a.bias ? a.bias + first : nullptr;
      const int64_t at = r * a.ld_y + first;
      if (a.y_dtype == DType::kF32)
        finish_row(sums + r * kPanelColumns, bias, columns, static_cast<float*>(a.y) + at);
      else
        finish_row(sums + r * kPanelColumns, bias, columns, static_cast<BF16*>(a.y) + at);
    }
  }
}

template void few_rows<float>(const FewRows&, int64_t, int64_t);
template void few_rows<BF16>(const FewRows&, int64_t, int64_t);

}  // namespace deepflow::cpu::DF_ISA
