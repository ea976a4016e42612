#include "kernels/cpu/matmul.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kRowBlock = 64;  // summed on its own first: shorter chains of additions, less rounding

// Sums `kVectors` neighbouring vectors of columns; `lanes` is what exists of the last one.
template <int kVectors, class T, class Lanes>
DF_SIMD void sum_strip(const T* x, int64_t rows, int64_t ld, float* sums, bool accumulate, Lanes lanes) {
  F32 total[kVectors];
  for (auto& t : total) t = zero();
  for (int64_t begin = 0; begin < rows; begin += kRowBlock) {
    const int64_t end = begin + kRowBlock < rows ? begin + kRowBlock : rows;
    F32 part[kVectors];
    for (auto& p : part) p = zero();
    for (int64_t r = begin; r < end; ++r) {
      constexpr int64_t kAhead = 16;  // rows lie far apart: asked for early
      for (int i = 0; i < kVectors; ++i) {
        __builtin_prefetch(x + (r + kAhead) * ld + i * kLanes);
        part[i] = part[i] + load(x + r * ld + i * kLanes, lanes);
      }
    }
    for (int i = 0; i < kVectors; ++i) total[i] = total[i] + part[i];
  }
  for (int i = 0; i < kVectors; ++i) {
    float* s = sums + i * kLanes;
    store(s, accumulate ? load(s, lanes) + total[i] : total[i], lanes);
  }
}

template <class T>
DF_SIMD void sum_all(const T* x, int64_t rows, int64_t ld, int64_t cols, float* sums, bool accumulate) {
  constexpr int kStrip = kLanes == 16 ? 12 : 4;  // sums that fit the registers
  int64_t j = 0;
  for (; j + kStrip * kLanes <= cols; j += kStrip * kLanes)
    sum_strip<kStrip>(x + j, rows, ld, sums + j, accumulate, AllLanes{});
  for (; j + 4 * kLanes <= cols; j += 4 * kLanes) sum_strip<4>(x + j, rows, ld, sums + j, accumulate, AllLanes{});
  for (; j + kLanes <= cols; j += kLanes) sum_strip<1>(x + j, rows, ld, sums + j, accumulate, AllLanes{});
  if (j < cols) sum_strip<1>(x + j, rows, ld, sums + j, accumulate, cols - j);
}

}  // namespace

void column_sums(const void* x, DType dtype, int64_t rows, int64_t ld, int64_t cols, float* sums, bool accumulate) {
  if (dtype == DType::kF32)
    sum_all(static_cast<const float*>(x), rows, ld, cols, sums, accumulate);
  else if (dtype == DType::kBF16)
    sum_all(static_cast<const BF16*>(x), rows, ld, cols, sums, accumulate);
  else
    sum_all(static_cast<const F16*>(x), rows, ld, cols, sums, accumulate);
}

}  // namespace deepflow::cpu::DF_ISA
