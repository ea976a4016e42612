#include "kernels/cpu/expert_rows.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kAhead = 4;  // rows: they lie anywhere, so that their first lines are asked for early
constexpr int64_t kCacheLine = 64, kLinesAsked = 4;

DF_SIMD void ask_for(const void* p) {
  for (int64_t line = 0; line < kLinesAsked; ++line)
    __builtin_prefetch(static_cast<const char*>(p) + line * kCacheLine);
}

}  // namespace

void gather_rows(const char* x, int64_t stride, const int32_t* source, int64_t row_bytes, char* to, int64_t begin,
                 int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    if (s + kAhead < end) ask_for(x + source[s + kAhead] * stride);
    __builtin_memcpy(to + s * row_bytes, x + source[s] * stride, static_cast<size_t>(row_bytes));
  }
}

template <class T>
void sum_slots(const T* y, int64_t ld_y, const int32_t* slot, const float* weights, int64_t k, int64_t cols, T* out,
               int64_t begin, int64_t end) {
  for (int64_t m = begin; m < end; ++m) {
    const int32_t* slots = slot + m * k;
    for (int64_t j = 0; m + 1 < end && j < k; ++j)
      if (slots[k + j] >= 0) ask_for(y + slots[k + j] * ld_y);
    for_each_vector(cols, [&](int64_t c, auto lanes) {
      F32 sum = zero();
      for (int64_t j = 0; j < k; ++j) {
        if (slots[j] < 0) continue;
        const F32 row = load(y + slots[j] * ld_y + c, lanes);
        sum = weights ? fma(splat(weights[m * k + j]), row, sum) : sum + row;
      }
      store(out + m * cols + c, sum, lanes);
    });
  }
}

template <class T>
void spread_rows(const T* dout, int64_t ld_dout, const T* y, const int32_t* slot, const float* weights, int64_t k,
                 int64_t cols, T* dy, float* dweights, int64_t begin, int64_t end) {
  for (int64_t m = begin; m < end; ++m)
    for (int64_t j = 0; j < k; ++j) {
      const int64_t s = slot[m * k + j];
      ChainedSum sum;
      if (s >= 0) {
        if (m * k + j + 1 < end * k && slot[m * k + j + 1] >= 0) ask_for(y + slot[m * k + j + 1] * cols);
        const F32 weight = splat(weights[m * k + j]);
        const T *from = y + s * cols, *d = dout + m * ld_dout;
        T* to = dy + s * cols;
        for_each_chained_vector(cols, [&](int64_t c, auto lanes, int chain) {
          const F32 gradient = load(d + c, lanes);
          sum.part[chain] = fma(gradient, load(from + c, lanes), sum.part[chain]);
          store(to + c, gradient * weight, lanes);
        });
      }
      dweights[m * k + j] = sum.total();
    }
}

#define DF_INSTANCES(T)                                                                                                \
  template void sum_slots<T>(const T*, int64_t, const int32_t*, const float*, int64_t, int64_t, T*, int64_t, int64_t); \
  template void spread_rows<T>(const T*, int64_t, const T*, const int32_t*, const float*, int64_t, int64_t, T*,        \
                               float*, int64_t, int64_t);
DF_INSTANCES(float)
DF_INSTANCES(BF16)
DF_INSTANCES(F16)

}  // namespace deepflow::cpu::DF_ISA
