#pragma once

#include "kernels/cpu/simd.h"

// y = activation(gate) * up over rows of gate_up [rows, 2 cols], and its gradient, for kernels/cpu/swiglu.cpp and
// geglu.cpp. Both ask for the row behind the one at work: the processor by itself asks too late.
namespace deepflow::cpu::DF_ISA {

// activation(kind, x): its value.
template <class T, class Activation>
void gated_forward(const T* gate_up, T* y, int64_t cols, int64_t begin, int64_t end, Activation&& activation) {
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = gate_up + row * 2 * cols, *up = gate + cols;
    for_each_vector(cols, [&](int64_t j, auto lanes) {
      __builtin_prefetch(gate + 2 * cols + j);
      __builtin_prefetch(up + 2 * cols + j);
      store(y + row * cols + j, activation(gate, load(gate + j, lanes)) * load(up + j, lanes), lanes);
    });
  }
}

// activation(kind, x, derivative): its value, and sets the derivative.
template <class T, class Activation>
void gated_backward(const T* gate_up, const T* dy, T* dgate_up, int64_t cols, int64_t begin, int64_t end,
                    Activation&& activation) {
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = gate_up + row * 2 * cols, *up = gate + cols;
    T *dgate = dgate_up + row * 2 * cols, *dup = dgate + cols;
    for_each_vector(cols, [&](int64_t j, auto lanes) {
      __builtin_prefetch(gate + 2 * cols + j);
      __builtin_prefetch(up + 2 * cols + j);
      const F32 g = load(gate + j, lanes), u = load(up + j, lanes), d = load(dy + row * cols + j, lanes);
      F32 derivative;
      const F32 value = activation(gate, g, derivative);
      store(dgate + j, d * u * derivative, lanes);
      store(dup + j, d * value, lanes);
    });
  }
}

}  // namespace deepflow::cpu::DF_ISA
