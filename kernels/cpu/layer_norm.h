#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/cpu/norm_rows.h"

namespace deepflow::cpu {

// T: float, BF16, F16.
DF_DECLARE_KERNELS(template <class T> void layer_norm_forward(const NormForward<T>& a, int64_t begin, int64_t end);
                   template <class T> void layer_norm_backward(const NormBackward<T>& a, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
