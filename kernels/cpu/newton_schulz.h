#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// x = a x + b y for n elements; x f32 or bf16.
DF_DECLARE_KERNELS(void blend_into(float a, void* x, DType dtype, float b, const float* y, int64_t n);)

}  // namespace deepflow::cpu
