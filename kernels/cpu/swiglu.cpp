#include "kernels/cpu/swiglu.h"

#include "kernels/cpu/gated_rows.h"
#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

template <class T>
DF_SIMD F32 logistic(const T*, F32 x) {
  return sigmoid(x);
}
DF_SIMD F32 logistic(const BF16*, F32 x) { return rough_sigmoid(x); }

}  // namespace

template <class T>
void swiglu_forward(const T* gate_up, T* y, int64_t cols, int64_t begin, int64_t end) {
  gated_forward(gate_up, y, cols, begin, end, [](const T* kind, F32 x) { return x * logistic(kind, x); });
}

template <class T>
void swiglu_backward(const T* gate_up, const T* dy, T* dgate_up, int64_t cols, int64_t begin, int64_t end) {
  gated_backward(gate_up, dy, dgate_up, cols, begin, end, [](const T* kind, F32 x, F32& derivative) {
    const F32 s = logistic(kind, x), silu = x * s;
    derivative = fma(silu, splat(1.0f) - s, s);
    return silu;
  });
}

#define DF_INSTANTIATE(T)                                                \
  template void swiglu_forward(const T*, T*, int64_t, int64_t, int64_t); \
  template void swiglu_backward(const T*, const T*, T*, int64_t, int64_t, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(BF16)
DF_INSTANTIATE(F16)

}  // namespace deepflow::cpu::DF_ISA
