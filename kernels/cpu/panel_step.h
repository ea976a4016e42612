#pragma once

#include "kernels/cpu/simd.h"

// One step of a product with a packed matrix in panels of 64 columns, [steps][64][depth]: `depth` rows of it (bf16: 2,
// f32: 1) by a vector of columns. Included by kernels/cpu/*.cpp only.
namespace deepflow::cpu::DF_ISA {

template <class T>
constexpr int64_t kDepth = sizeof(float) / sizeof(T);

// What one step multiplies with: an element of x, or a neighbouring pair in all lanes.
struct Pair {
#ifdef __AVX512BF16__
  __m512bh v;
#else
  F32 first, second;
#endif
};
DF_SIMD F32 splat_x(const float* x) { return splat(*x); }
DF_SIMD F32 multiply_add(const float* w, F32 x, F32 sum) { return fma(load(w), x, sum); }
#ifdef __AVX512BF16__
DF_SIMD Pair splat_x(const BF16* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof(pair));
  return {(__m512bh)_mm512_set1_epi32(pair)};
}
DF_SIMD F32 multiply_add(const BF16* w, Pair x, F32 sum) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_loadu_si512(w), x.v)};
}
#else
DF_SIMD Pair splat_x(const BF16* x) { return {splat(to_float(x[0])), splat(to_float(x[1]))}; }
DF_SIMD F32 multiply_add(const BF16* w, Pair x, F32 sum) {
#ifdef __AVX512F__
  const __m512i pairs = _mm512_loadu_si512(w);
  const F32 first{_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))};
  const F32 second{_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))};
#else
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  const F32 first{_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16))};
  const F32 second{_mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)))};
#endif
  return fma(second, x.second, fma(first, x.first, sum));
}
#endif

}  // namespace deepflow::cpu::DF_ISA
