#include "kernels/cpu/gelu.h"

#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/tanh_gate.h"

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
    store(du + j, load(dy + j, lanes) * tanh_gelu_derivative(x, gate, rest), lanes);
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
