#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// Rows of gate_up [rows, 2 cols] and y, dy [rows, cols]. T: float, BF16, F16. dgate_up may be gate_up.
DF_DECLARE_KERNELS(template <class T>
                   void geglu_forward(const T* gate_up, T* y, int64_t cols, int64_t begin, int64_t end);
                   template <class T> void geglu_backward(const T* gate_up, const T* dy, T* dgate_up, int64_t cols,
                                                          int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
