#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// The elementary functions of kernels/cpu/simd_math.h over an array, once per instruction set.
enum class Function : uint8_t { kExp, kLog, kTanh, kErf, kSigmoid, kRoughExp2, kRoughReciprocal, kRoughSigmoid };
DF_DECLARE_KERNELS(void apply(Function function, const float* x, float* y, int64_t n);)

}  // namespace deepflow::cpu
