#pragma once

#include "kernels/cpu/simd.h"

// A vector of i32 in the width of F32 (kernels/cpu/simd.h), and products of four neighbouring bytes. Included by
// kernels/cpu/int8_*.cpp only.
namespace deepflow::cpu::DF_ISA {

#ifdef __AVX512F__

struct I32 {
  __m512i v;
};
DF_SIMD I32 splat_i32(int32_t x) { return {_mm512_set1_epi32(x)}; }
DF_SIMD I32 load_i32(const void* p) { return {_mm512_loadu_si512(p)}; }
DF_SIMD void store_i32(void* p, I32 x) { _mm512_storeu_si512(p, x.v); }
DF_SIMD I32 operator+(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
DF_SIMD I32 operator-(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
DF_SIMD I32 operator&(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
DF_SIMD I32 operator|(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
template <int kBits>
DF_SIMD I32 shift_left(I32 a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
DF_SIMD I32 max(I32 a, I32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
DF_SIMD int32_t reduce_max(I32 a) { return _mm512_reduce_max_epi32(a.v); }
DF_SIMD I32 bits_of(F32 x) { return {_mm512_castps_si512(x.v)}; }
DF_SIMD F32 float_of(I32 x) { return {_mm512_cvtepi32_ps(x.v)}; }
DF_SIMD I32 round_to_i32(F32 x) { return {_mm512_cvtps_epi32(x.v)}; }
// The low bytes of all lanes.
DF_SIMD void store_bytes(void* p, I32 x) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v)); }
DF_SIMD __m512i even_bytes_signed(__m512i b) { return _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8); }
DF_SIMD __m512i odd_bytes_signed(__m512i b) { return _mm512_srai_epi16(b, 8); }
DF_SIMD __m512i even_bytes(__m512i a) { return _mm512_and_si512(a, _mm512_set1_epi16(0xff)); }
DF_SIMD __m512i odd_bytes(__m512i a) { return _mm512_srli_epi16(a, 8); }
DF_SIMD I32 madd(__m512i a, __m512i b) { return {_mm512_madd_epi16(a, b)}; }

// Written out, because VNNI is a choice at run time within this instruction set, which the compiler may not use of its
// own accord.
struct VnniDot {
  DF_SIMD static I32 add(I32 sum, I32 a, I32 b) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
    return sum;
  }
};

#else

struct I32 {
  __m256i v;
};
DF_SIMD I32 splat_i32(int32_t x) { return {_mm256_set1_epi32(x)}; }
DF_SIMD I32 load_i32(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
DF_SIMD void store_i32(void* p, I32 x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x.v); }
DF_SIMD I32 operator+(I32 a, I32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
DF_SIMD I32 operator-(I32 a, I32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
DF_SIMD I32 operator&(I32 a, I32 b) { return {_mm256_and_si256(a.v, b.v)}; }
DF_SIMD I32 operator|(I32 a, I32 b) { return {_mm256_or_si256(a.v, b.v)}; }
template <int kBits>
DF_SIMD I32 shift_left(I32 a) {
  return {_mm256_slli_epi32(a.v, kBits)};
}
DF_SIMD I32 max(I32 a, I32 b) { return {_mm256_max_epi32(a.v, b.v)}; }
DF_SIMD int32_t reduce_max(I32 a) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}
DF_SIMD I32 bits_of(F32 x) { return {_mm256_castps_si256(x.v)}; }
DF_SIMD F32 float_of(I32 x) { return {_mm256_cvtepi32_ps(x.v)}; }
DF_SIMD I32 round_to_i32(F32 x) { return {_mm256_cvtps_epi32(x.v)}; }
DF_SIMD void store_bytes(void* p, I32 x) {
  const __m256i low = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1,
                                       -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m256i bytes = _mm256_shuffle_epi8(x.v, low);
  const __m128i pair = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), pair);
}
DF_SIMD __m256i even_bytes_signed(__m256i b) { return _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8); }
DF_SIMD __m256i odd_bytes_signed(__m256i b) { return _mm256_srai_epi16(b, 8); }
DF_SIMD __m256i even_bytes(__m256i a) { return _mm256_and_si256(a, _mm256_set1_epi16(0xff)); }
DF_SIMD __m256i odd_bytes(__m256i a) { return _mm256_srli_epi16(a, 8); }
DF_SIMD I32 madd(__m256i a, __m256i b) { return {_mm256_madd_epi16(a, b)}; }

#endif

// sum + a0 b0 + a1 b1 + a2 b2 + a3 b3 in each lane of four bytes, a unsigned, b signed: what VNNI does, in 16 bits.
struct PlainDot {
  DF_SIMD static I32 add(I32 sum, I32 a, I32 b) {
    return sum + madd(even_bytes(a.v), even_bytes_signed(b.v)) + madd(odd_bytes(a.v), odd_bytes_signed(b.v));
  }
};

}  // namespace deepflow::cpu::DF_ISA
