#include "kernels/cpu/swiglu.h"

#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

template <class T>
DF_SIMD F32 logistic(const T*, F32 x) {
  return sigmoid(x);
}
DF_SIMD F32 logistic(const BF16*, F32 x) { return rough_sigmoid(x); }

}  // namespace

// Both ask for the row behind the one at work: the processor by itself asks too late.
template <class T>
void swiglu_forward(const T* gate_up, T* y, int64_t cols, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = gate_up + row * 2 * cols, *up = gate + cols;
    for_each_vector(cols, [&](int64_t j, auto lanes) {
      __builtin_prefetch(gate + 2 * cols + j);
      __builtin_prefetch(up + 2 * cols + j);
      const F32 g = load(gate + j, lanes);
      store(y + row * cols + j, g * logistic(gate, g) * load(up + j, lanes), lanes);
    });
  }
}

template <class T>
void swiglu_backward(const T* gate_up, const T* dy, T* dgate_up, int64_t cols, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = gate_up + row * 2 * cols, *up = gate + cols;
    T *dgate = dgate_up + row * 2 * cols, *dup = dgate + cols;
    for_each_vector(cols, [&](int64_t j, auto lanes) {
      __builtin_prefetch(gate + 2 * cols + j);
      __builtin_prefetch(up + 2 * cols + j);
      const F32 g = load(gate + j, lanes), u = load(up + j, lanes), d = load(dy + row * cols + j, lanes);
      const F32 s = logistic(gate, g), silu = g * s;
      store(dgate + j, d * u * fma(silu, splat(1.0f) - s, s), lanes);
      store(dup + j, d * silu, lanes);
    });
  }
}

#define DF_INSTANTIATE(T)                                                \
  template void swiglu_forward(const T*, T*, int64_t, int64_t, int64_t); \
  template void swiglu_backward(const T*, const T*, T*, int64_t, int64_t, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(BF16)
DF_INSTANTIATE(F16)

}  // namespace deepflow::cpu::DF_ISA
