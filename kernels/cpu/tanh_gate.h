#pragma once

#include "kernels/cpu/simd_math.h"

// GELU in its tanh form (Hendrycks & Gimpel 2016): x * gate(x).
namespace deepflow::cpu::DF_ISA {

constexpr float kSqrt2OverPi = 0.79788456f, kCubic = 0.044715f;

// gate = (1 + tanh(v)) / 2 = sigmoid(2 v) and 1 - gate, neither of them as a difference of nearly equal numbers.
template <class T>
DF_SIMD void tanh_gate(const T*, F32 x, F32& gate, F32& rest) {
  const F32 two_v = x * fma(x * x, splat(2 * kSqrt2OverPi * kCubic), splat(2 * kSqrt2OverPi));
  const F32 e = exp(min(splat(80.0f), zero() - two_v));
  gate = splat(1.0f) / (splat(1.0f) + e);
  rest = e * gate;
}
DF_SIMD void tanh_gate(const BF16*, F32 x, F32& gate, F32& rest) {
  constexpr float kSlope = -2 * kSqrt2OverPi * kLog2E;
  const F32 e = rough_exp2(min(splat(115.0f), x * fma(x * x, splat(kSlope * kCubic), splat(kSlope))));
  gate = rough_reciprocal(splat(1.0f) + e);
  rest = e * gate;
}

// d(x gate) / dx
DF_SIMD F32 tanh_gelu_derivative(F32 x, F32 gate, F32 rest) {
  const F32 slope = fma(x * x, splat(6 * kSqrt2OverPi * kCubic), splat(2 * kSqrt2OverPi));
  return fma(x * slope * gate, rest, gate);
}

}  // namespace deepflow::cpu::DF_ISA
