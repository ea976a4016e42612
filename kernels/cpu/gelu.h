#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// Over n elements. T: float, BF16, F16. y may be u; du may be dy.
DF_DECLARE_KERNELS(template <class T> void gelu_exact_forward(const T* u, T* y, int64_t n);
                   template <class T> void gelu_exact_backward(const T* u, const T* dy, T* du, int64_t n);
                   template <class T> void gelu_tanh_forward(const T* u, T* y, int64_t n);
                   template <class T> void gelu_tanh_backward(const T* u, const T* dy, T* du, int64_t n);)

}  // namespace deepflow::cpu
