#include "kernels/cpu/geglu.h"

#include "kernels/cpu/gated_rows.h"
#include "kernels/cpu/tanh_gate.h"

namespace deepflow::cpu::DF_ISA {
template <class T>
void geglu_forward(const T* gate_up, T* y, int64_t cols, int64_t begin, int64_t end) {
  gated_forward(gate_up, y, cols, begin, end, [](const T* kind, F32 x) {
    F32 gate, rest;
    tanh_gate(kind, x, gate, rest);
    return x * gate;
  });
}

template <class T>
void geglu_backward(const T* gate_up, const T* dy, T* dgate_up, int64_t cols, int64_t begin, int64_t end) {
  gated_backward(gate_up, dy, dgate_up, cols, begin, end, [](const T* kind, F32 x, F32& derivative) {
    F32 gate, rest;
    tanh_gate(kind, x, gate, rest);
    derivative = tanh_gelu_derivative(x, gate, rest);
    return x * gate;
  });
}

#define DF_INSTANTIATE(T)                                               \
  template void geglu_forward(const T*, T*, int64_t, int64_t, int64_t); \
  template void geglu_backward(const T*, const T*, T*, int64_t, int64_t, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(BF16)
DF_INSTANTIATE(F16)

}  // namespace deepflow::cpu::DF_ISA
