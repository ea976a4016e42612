#include "kernels/cpu/gelu.h"

#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

// Phi(x), the distribution function of the normal law, and exp(-x^2 / 2).
template <class T>
DF_SIMD void normal_law(const T*, F32 x, F32& distribution, F32& bell) {
  distribution = fma(erf(x * splat(0.70710678f)), splat(0.5f), splat(0.5f));
  bell = exp(x * x * splat(-0.5f));
}

// Abramowitz & Stegun 7.1.26: absolute error 1.5e-7, far below a bf16, and one exponential serves both results.
DF_SIMD void normal_law(const BF16*, F32 x, F32& distribution, F32& bell) {
  const F32 t = splat(1.0f) / fma(abs(x), splat(0.3275911f * 0.70710678f), splat(1.0f));
  bell = exp(x * x * splat(-0.5f));
  F32 p = splat(1.061405429f);
  p = fma(p, t, splat(-1.453152027f));
  p = fma(p, t, splat(1.421413741f));
  p = fma(p, t, splat(-0.284496736f));
  p = fma(p, t, splat(0.254829592f));
  const F32 tail = p * t * bell * splat(0.5f);
  distribution = select(x < zero(), tail, splat(1.0f) - tail);
}

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

}  // namespace

template <class T>
void gelu_exact_forward(const T* u, T* y, int64_t n) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 x = load(u + j, lanes);
    F32 distribution, bell;
    normal_law(u, x, distribution, bell);
    store(y + j, x * distribution, lanes);
  });
}

template <class T>
void gelu_exact_backward(const T* u, const T* dy, T* du, int64_t n) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 x = load(u + j, lanes);
    F32 distribution, bell;
    normal_law(u, x, distribution, bell);
    store(du + j, load(dy + j, lanes) * fma(x * splat(0.39894228f), bell, distribution), lanes);
  });
}

template <class T>
void gelu_tanh_forward(const T* u, T* y, int64_t n) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 x = load(u + j, lanes);
    F32 gate, rest;
    tanh_gate(u, x, gate, rest);
    store(y + j, x * gate, lanes);
  });
}

template <class T>
void gelu_tanh_backward(const T* u, const T* dy, T* du, int64_t n) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 x = load(u + j, lanes);
    F32 gate, rest;
    tanh_gate(u, x, gate, rest);
    const F32 slope = fma(x * x, splat(6 * kSqrt2OverPi * kCubic), splat(2 * kSqrt2OverPi));
    const F32 derivative = fma(x * slope * gate, rest, gate);
    store(du + j, load(dy + j, lanes) * derivative, lanes);
  });
}

#define DF_INSTANTIATE(T)                                             \
  template void gelu_exact_forward(const T*, T*, int64_t);            \
  template void gelu_exact_backward(const T*, const T*, T*, int64_t); \
  template void gelu_tanh_forward(const T*, T*, int64_t);             \
  template void gelu_tanh_backward(const T*, const T*, T*, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(BF16)
DF_INSTANTIATE(F16)

}  // namespace deepflow::cpu::DF_ISA
