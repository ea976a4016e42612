#include "kernels/cpu/weight_panels.h"

#include "kernels/cpu/simd_transpose.h"

namespace deepflow::cpu::DF_ISA {

#ifdef __AVX512BF16__
namespace {

// 32 neighbouring elements of a row.
DF_SIMD __m512i rounded(const float* p) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + kLanes), _mm512_loadu_ps(p));
}

DF_SIMD void stream(BF16* p, __m512i x) { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), x); }

// Element 2 j of `low` from a[j], 2 j + 1 from b[j]; `high` goes on where it ends.
DF_SIMD void interleave(__m512i a, __m512i b, __m512i& low, __m512i& high) {
  const __m512i low_half = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                            37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  low = _mm512_permutex2var_epi16(a, low_half, b);
  high = _mm512_permutex2var_epi16(a, _mm512_add_epi16(low_half, _mm512_set1_epi16(16)), b);
}

// 16 rows of 32 columns. forward, input_grad: at the part's first pair.
DF_SIMD void write_part(const float* weight, int64_t ld, int64_t rows, BF16* forward, BF16* input_grad) {
  F32 lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i)
    lanes[i] = {_mm512_castsi512_ps(i < rows ? rounded(weight + i * ld) : _mm512_setzero_si512())};
  if (input_grad) {
    for (int64_t i = 0; i < kLanes; i += 2) {
      __m512i low, high;
      interleave(_mm512_castps_si512(lanes[i].v), _mm512_castps_si512(lanes[i + 1].v), low, high);
      stream(input_grad + i * 64, low);
      stream(input_grad + i * 64 + 32, high);
    }
  }
  if (!forward) return;
  transpose_square(lanes);
  for (int64_t i = 0; i < kLanes; ++i) stream(forward + i * 128, _mm512_castps_si512(lanes[i].v));
}

}  // namespace

void write_panel_block(const float* weight, int64_t ld, int64_t rows, BF16* forward, BF16* input_grad) {
  for (int64_t r = 0; r < 64; r += 16)
    for (int64_t c = 0; c < 64; c += 32)
      write_part(weight + r * ld + c, ld, rows - r, forward ? forward + c * 64 + r * 2 : nullptr,
                 input_grad ? input_grad + r * 64 + c * 2 : nullptr);
  _mm_sfence();
}

void write_row_pair(const BF16* rows, int64_t ld, int64_t cols, BF16* panels, int64_t panel) {
  for (int64_t c = 0; c < cols; c += 64)
    for (int64_t half = 0; half < 64; half += 32) {
      const BF16* row = rows + c + half;
      BF16* to = panels + c / 64 * panel + 2 * half;
      __m512i low, high;
      interleave(_mm512_loadu_si512(row), _mm512_loadu_si512(row + ld), low, high);
      _mm512_storeu_si512(to, low);
      _mm512_storeu_si512(to + 32, high);
    }
}
#else
void write_panel_block(const float* weight, int64_t ld, int64_t rows, BF16* forward, BF16* input_grad) {
  for (int64_t r = 0; r < 64; ++r)
    for (int64_t c = 0; c < 64; ++c) {
      const BF16 x = to_bf16(r < rows ? weight[r * ld + c] : 0.0f);
      if (forward) forward[(c / 2 * 64 + r) * 2 + c % 2] = x;
      if (input_grad) input_grad[(r / 2 * 64 + c) * 2 + r % 2] = x;
    }
}

void write_row_pair(const BF16* rows, int64_t ld, int64_t cols, BF16* panels, int64_t panel) {
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t r = 0; r < 2; ++r) panels[c / 64 * panel + c % 64 * 2 + r] = rows[r * ld + c];
}
#endif

}  // namespace deepflow::cpu::DF_ISA
