#pragma once

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

// kLanes vectors as a square matrix of 32-bit lanes, transposed in place.
#ifdef __AVX512F__
DF_SIMD void transpose_square(F32* r) {
  __m512i x[16], t[16];
  for (int i = 0; i < 16; ++i) x[i] = _mm512_castps_si512(r[i].v);
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    x[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    x[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    x[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    x[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = {_mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i], t[i + 8], 0x88))};
    r[i + 8] = {_mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd))};
    r[i + 4] = {_mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88))};
    r[i + 12] = {_mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd))};
  }
}
#else
DF_SIMD void transpose_square(F32* r) {
  __m256 t[8], x[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
  for (int i = 0; i < 2; ++i) {
    x[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    x[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    x[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    x[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = {_mm256_permute2f128_ps(x[i], x[i + 4], 0x20)};
    r[i + 4] = {_mm256_permute2f128_ps(x[i], x[i + 4], 0x31)};
  }
}
#endif

}  // namespace deepflow::cpu::DF_ISA
