#pragma once

#include "kernels/cpu/simd.h"

// Elementary functions of a vector of f32, within 2 units in the last place, for every input: infinities, NaN and
// subnormal numbers as the C library has them. Coefficients: exp, log, tanh from Moshier's Cephes (single precision).
namespace deepflow::cpu::DF_ISA {

constexpr float kInfinity = __builtin_inff();

DF_SIMD F32 exp(F32 x) {
  const F32 clamped = min(splat(105.0f), max(splat(-105.0f), x));  // beyond: infinity and 0
  const F32 n = round_even(clamped * splat(1.44269504088896341f));
  const F32 r = fnma(n, splat(-2.12194440e-4f), fnma(n, splat(0.693359375f), clamped));
  F32 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  return scale_by_power_of_2(fma(p, r * r, r) + splat(1.0f), n);
}

// Positive finite x = mantissa 2^exponent, mantissa in [1, 2).
DF_SIMD void split_exponent(F32 x, F32& mantissa, F32& exponent) {
#ifdef __AVX512F__
  mantissa = {_mm512_getmant_ps(x.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero)};
  exponent = {_mm512_getexp_ps(x.v)};
#else
  const Mask subnormal = x < splat(1.17549435e-38f);
  const __m256i bits = _mm256_castps_si256(select(subnormal, x * splat(8388608.0f), x).v);
  const __m256i e = _mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127));
  exponent = F32{_mm256_cvtepi32_ps(e)} - select(subnormal, splat(23.0f), zero());
  const __m256i fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff));
  mantissa = {_mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3f800000)))};
#endif
}

DF_SIMD F32 log(F32 x) {
  F32 m, e;
  split_exponent(x, m, e);
  const Mask large = m > splat(1.41421356f);
  m = select(large, m * splat(0.5f), m) - splat(1.0f);
  e = select(large, e + splat(1.0f), e);
  F32 p = splat(7.0376836292e-2f);
  p = fma(p, m, splat(-1.1514610310e-1f));
  p = fma(p, m, splat(1.1676998740e-1f));
  p = fma(p, m, splat(-1.2420140846e-1f));
  p = fma(p, m, splat(1.4249322787e-1f));
  p = fma(p, m, splat(-1.6668057665e-1f));
  p = fma(p, m, splat(2.0000714765e-1f));
  p = fma(p, m, splat(-2.4999993993e-1f));
  p = fma(p, m, splat(3.3333331174e-1f));
  const F32 z = m * m;
  F32 y = fma(e, splat(-2.12194440e-4f), p * m * z);
  y = fma(z, splat(-0.5f), y);
  F32 result = fma(e, splat(0.693359375f), m + y);
  result = select(x == zero(), splat(-kInfinity), result);
  result = select(x == splat(kInfinity), x, result);
  return select((x < zero()) | is_nan(x), splat(__builtin_nanf("")), result);
}

DF_SIMD F32 tanh(F32 x) {
  const F32 a = abs(x), z = x * x;
  F32 p = splat(-5.70498872745e-3f);
  p = fma(p, z, splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  const F32 small = fma(p * z, x, x);
  const F32 large = splat(1.0f) - splat(2.0f) / (exp(a + a) + splat(1.0f));
  return select(a < splat(0.625f), small, copysign(large, x));
}

// Polynomials of Juffa's single-precision erf: x + x P(x^2) near zero, 1 - exp(Q(|x|)) beyond.
DF_SIMD F32 erf(F32 x) {
  const F32 t = abs(x), s = x * x;
  F32 r = fma(splat(-1.72853470e-5f), t, splat(3.83197126e-4f));
  const F32 u = fma(splat(-3.88396438e-3f), t, splat(2.42546219e-2f));
  r = fma(r, s, u);
  r = fma(r, t, splat(-1.06777877e-1f));
  r = fma(r, t, splat(-6.34846687e-1f));
  r = fma(r, t, splat(-1.28717512e-1f));
  r = fma(r, t, zero() - t);
  // Beyond 4 the value is 1 in f32, and the polynomial, exact only near its interval, must not decide.
  const F32 tail = select(t > splat(4.0f), zero(), exp(r));
  const F32 large = copysign(splat(1.0f) - tail, x);
  F32 p = splat(-5.96761703e-4f);
  p = fma(p, s, splat(4.99119423e-3f));
  p = fma(p, s, splat(-2.67681349e-2f));
  p = fma(p, s, splat(1.12819925e-1f));
  p = fma(p, s, splat(-3.76125336e-1f));
  p = fma(p, s, splat(1.28379166e-1f));
  const F32 small = fma(p, x, x);
  return select(t > splat(0.927734375f), select(is_nan(x), x, large), small);
}

// Below -88 the result may be 0 where the true value is subnormal.
DF_SIMD F32 sigmoid(F32 x) { return splat(1.0f) / (splat(1.0f) + exp(zero() - x)); }

// For results that are rounded to bf16, in half the instructions: 2^x within 3e-6, 0 below -150; 1 / x within 3e-7
// where neither is subnormal; the logistic function.
DF_SIMD F32 rough_exp2(F32 x) {
  x = max(splat(-160.0f), x);
  const F32 n = round_even(x), r = x - n;
  F32 p = splat(9.570087e-3f);
  p = fma(p, r, splat(5.591786e-2f));
  p = fma(p, r, splat(2.402475e-1f));
  p = fma(p, r, splat(6.931218e-1f));
  return scale_by_power_of_2(fma(p, r, splat(9.999993e-1f)), n);
}

DF_SIMD F32 rough_reciprocal(F32 x) {
#ifdef __AVX512F__
  const F32 r = {_mm512_rcp14_ps(x.v)};
#else
  const F32 r = {_mm256_rcp_ps(x.v)};
#endif
  return r * fnma(x, r, splat(2.0f));
}

constexpr float kLog2E = 1.44269504f;

DF_SIMD F32 rough_sigmoid(F32 x) {
  return rough_reciprocal(splat(1.0f) + rough_exp2(min(splat(115.0f), x * splat(-kLog2E))));
}

}  // namespace deepflow::cpu::DF_ISA
