#pragma once

#include "core/dtype.h"

#include <immintrin.h>

#include <cstdint>

// A vector of f32 in the width of the instruction set that DF_ISA names (kernels/cpu/isa.h): one kernel source serves
// AVX2, AVX-512 and AVX-512 BF16. Included by kernels/cpu/*.cpp only. Storage is f32, bf16 or f16; arithmetic is f32.
// Elementary functions: kernels/cpu/simd_math.h.
#define DF_SIMD [[gnu::always_inline]] inline

namespace deepflow::cpu::DF_ISA {

#ifdef __AVX512F__
constexpr int64_t kLanes = 16;
struct F32 {
  __m512 v;
};
struct Mask {
  __mmask16 v;
};
#else
constexpr int64_t kLanes = 8;
struct F32 {
  __m256 v;
};
struct Mask {
  __m256 v;  // all bits of a lane
};
#endif

// In place of a lane count: the whole vector.
struct AllLanes {};

#ifdef __AVX512F__

DF_SIMD F32 splat(float x) { return {_mm512_set1_ps(x)}; }
DF_SIMD F32 zero() { return {_mm512_setzero_ps()}; }
DF_SIMD Mask first_lanes(int64_t n) { return {static_cast<__mmask16>((1u << n) - 1)}; }

DF_SIMD F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
DF_SIMD void store(float* p, F32 x) { _mm512_storeu_ps(p, x.v); }
DF_SIMD F32 widen_bf16(__m256i x) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))}; }
DF_SIMD __m256i narrow_bf16(F32 x) {
#ifdef __AVX512BF16__
  return (__m256i)_mm512_cvtneps_pbh(x.v);
#else
  const __m512i u = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
#endif
}
DF_SIMD F32 load(const BF16* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
DF_SIMD void store(BF16* p, F32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x)); }
DF_SIMD F32 load(const F16* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
DF_SIMD void store(F16* p, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

// Tails: n < kLanes lanes exist; the others read as zero and are not written.
DF_SIMD F32 load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n).v, p)}; }
DF_SIMD void store(float* p, F32 x, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n).v, x.v); }
DF_SIMD F32 load(const BF16* p, int64_t n) { return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n).v, p)); }
DF_SIMD void store(BF16* p, F32 x, int64_t n) { _mm256_mask_storeu_epi16(p, first_lanes(n).v, narrow_bf16(x)); }
DF_SIMD F32 load(const F16* p, int64_t n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n).v, p))}; }
DF_SIMD void store(F16* p, F32 x, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n).v, _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

DF_SIMD F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
DF_SIMD F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
DF_SIMD F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
DF_SIMD F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
DF_SIMD F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
DF_SIMD F32 fnma(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
// A NaN in b comes out; a NaN in a is lost: put constants first.
DF_SIMD F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
DF_SIMD F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
DF_SIMD F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
DF_SIMD F32 abs(F32 a) { return {_mm512_abs_ps(a.v)}; }
DF_SIMD F32 round_even(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
DF_SIMD F32 copysign(F32 magnitude, F32 sign) {
  const __m512i bit = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  return {_mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign.v), _mm512_castps_si512(magnitude.v), 0xca))};
}

DF_SIMD Mask operator<(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
DF_SIMD Mask operator<=(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
DF_SIMD Mask operator>(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
DF_SIMD Mask operator>=(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
DF_SIMD Mask operator==(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
DF_SIMD Mask is_nan(F32 a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
DF_SIMD Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.v & b.v)}; }
DF_SIMD Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
DF_SIMD bool any(Mask m) { return m.v != 0; }
DF_SIMD F32 select(Mask m, F32 yes, F32 no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }

// Sums lanes in a fixed order.
DF_SIMD float reduce_add(F32 a) { return _mm512_reduce_add_ps(a.v); }
DF_SIMD float reduce_max(F32 a) { return _mm512_reduce_max_ps(a.v); }

// x 2^n for integral n; overflows to infinity, underflows gradually.
DF_SIMD F32 scale_by_power_of_2(F32 x, F32 n) { return {_mm512_scalef_ps(x.v, n.v)}; }

#else  // AVX2

DF_SIMD F32 splat(float x) { return {_mm256_set1_ps(x)}; }
DF_SIMD F32 zero() { return {_mm256_setzero_ps()}; }
DF_SIMD Mask first_lanes(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane))};
}

DF_SIMD F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
DF_SIMD void store(float* p, F32 x) { _mm256_storeu_ps(p, x.v); }
DF_SIMD F32 widen_bf16(__m128i x) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))}; }
DF_SIMD __m128i narrow_bf16(F32 x) {
  const __m256i u = _mm256_castps_si256(x.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q);
  const __m256i r = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
  const __m256i high = _mm256_srli_epi32(r, 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x88);
  return _mm256_castsi256_si128(packed);
}
DF_SIMD F32 load(const BF16* p) { return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
DF_SIMD void store(BF16* p, F32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x)); }
DF_SIMD F32 load(const F16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
DF_SIMD void store(F16* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

// Tails: n < kLanes lanes exist; the others read as zero and are not written.
DF_SIMD F32 load(const float* p, int64_t n) { return {_mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(n).v))}; }
DF_SIMD void store(float* p, F32 x, int64_t n) { _mm256_maskstore_ps(p, _mm256_castps_si256(first_lanes(n).v), x.v); }
template <class Half>  // BF16, F16: AVX2 has no masked move of 16 bits
DF_SIMD F32 load_half_tail(const Half* p, int64_t n) {
  Half lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class Half>
DF_SIMD void store_half_tail(Half* p, F32 x, int64_t n) {
  Half lanes[kLanes];
  store(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
DF_SIMD F32 load(const BF16* p, int64_t n) { return load_half_tail(p, n); }
DF_SIMD void store(BF16* p, F32 x, int64_t n) { store_half_tail(p, x, n); }
DF_SIMD F32 load(const F16* p, int64_t n) { return load_half_tail(p, n); }
DF_SIMD void store(F16* p, F32 x, int64_t n) { store_half_tail(p, x, n); }

DF_SIMD F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
DF_SIMD F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
DF_SIMD F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
DF_SIMD F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
DF_SIMD F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
DF_SIMD F32 fnma(F32 a, F32 b, F32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
// A NaN in b comes out; a NaN in a is lost: put constants first.
DF_SIMD F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
DF_SIMD F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
DF_SIMD F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
DF_SIMD F32 abs(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
DF_SIMD F32 round_even(F32 a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
DF_SIMD F32 copysign(F32 magnitude, F32 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_and_ps(bit, sign.v), _mm256_andnot_ps(bit, magnitude.v))};
}

DF_SIMD Mask operator<(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
DF_SIMD Mask operator<=(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
DF_SIMD Mask operator>(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
DF_SIMD Mask operator>=(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
DF_SIMD Mask operator==(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
DF_SIMD Mask is_nan(F32 a) { return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}; }
DF_SIMD Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.v, b.v)}; }
DF_SIMD Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
DF_SIMD bool any(Mask m) { return _mm256_movemask_ps(m.v) != 0; }
DF_SIMD F32 select(Mask m, F32 yes, F32 no) { return {_mm256_blendv_ps(no.v, yes.v, m.v)}; }

// Sums lanes in a fixed order.
DF_SIMD float reduce_add(F32 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
DF_SIMD float reduce_max(F32 a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// x 2^n for integral n; overflows to infinity, underflows gradually. Two factors: 2^n alone may not be a normal number.
DF_SIMD F32 scale_by_power_of_2(F32 x, F32 n) {
  const __m256i all = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(all, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(all, half), bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(x.v, a), b)};
}

#endif

template <class T>
DF_SIMD F32 load(const T* p, AllLanes) {
  return load(p);
}
template <class T>
DF_SIMD void store(T* p, F32 x, AllLanes) {
  store(p, x);
}
// `x` where lanes exist, `otherwise` in the rest of a tail.
DF_SIMD F32 keep_lanes(F32 x, int64_t n, F32 otherwise) { return select(first_lanes(n), x, otherwise); }
DF_SIMD F32 keep_lanes(F32 x, AllLanes, F32) { return x; }

// f(j, lanes) for j = 0, kLanes, ...: lanes is AllLanes{} for whole vectors, a count for the tail. Both take the same
// generic lambda: [&](int64_t j, auto lanes) { store(y + j, load(x + j, lanes), lanes); }
template <class F>
DF_SIMD void for_each_vector(int64_t n, F&& f) {
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) f(j, AllLanes{});
  if (j < n) f(j, n - j);
}

// Sums in several chains of additions that do not wait for one another, added up in a fixed order.
constexpr int kChains = 4;
struct ChainedSum {
  F32 part[kChains] = {zero(), zero(), zero(), zero()};
  DF_SIMD float total() const { return reduce_add((part[0] + part[1]) + (part[2] + part[3])); }
};
// As for_each_vector, with f(j, lanes, chain): neighbouring vectors belong to different chains.
template <class F>
DF_SIMD void for_each_chained_vector(int64_t n, F&& f) {
  int64_t j = 0;
  for (; j + kChains * kLanes <= n; j += kChains * kLanes)
    for (int chain = 0; chain < kChains; ++chain) f(j + chain * kLanes, AllLanes{}, chain);
  for (; j + kLanes <= n; j += kLanes) f(j, AllLanes{}, 0);
  if (j < n) f(j, n - j, 0);
}

}  // namespace deepflow::cpu::DF_ISA
