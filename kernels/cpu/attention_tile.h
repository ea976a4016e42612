#pragma once

#include "kernels/cpu/attention.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/simd_transpose.h"

// Blocks of at most kBlock rows and small matrix products on them, for kernels/cpu/attention_*.cpp.
//
// Operands have elements E: float, or BF16 where the CPU multiplies pairs of them. A "lane" is 32 bits of operands
// along the summed dimension: one float or two BF16. The left operand of a product is row-major; the right one has
// lanes of the summed dimension as rows, [k / kGroup<E>, columns] lanes.
namespace deepflow::cpu::DF_ISA {

constexpr int64_t kBlock = 64;
constexpr int64_t kStrip = 16;  // blocks on the diagonal are cut in strips, to leave out what is masked

template <class E>
constexpr int64_t kGroup = static_cast<int64_t>(sizeof(float) / sizeof(E));

// Operand type for stored elements T.
template <class T>
struct OperandOf {
  using Type = float;
};
#ifdef __AVX512BF16__
template <>
struct OperandOf<BF16> {
  using Type = BF16;
};
#endif

DF_SIMD int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
DF_SIMD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
DF_SIMD int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Columns of a staged head: a whole number of vectors of lanes for either E.
DF_SIMD int64_t padded_head(int64_t head_dim) { return round_up(head_dim, 32); }

DF_SIMD F32 load_lanes(const float* p) { return load(p); }
DF_SIMD F32 splat_lane(const float* p) { return splat(*p); }
DF_SIMD F32 multiply_lanes(const float*, F32 left, F32 right, F32 sum) { return fma(left, right, sum); }
DF_SIMD void store_lanes(float* p, F32 x) { store(p, x); }
#ifdef __AVX512BF16__
DF_SIMD F32 load_lanes(const BF16* p) { return {_mm512_castsi512_ps(_mm512_loadu_si512(p))}; }
DF_SIMD F32 splat_lane(const BF16* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return {_mm512_castsi512_ps(_mm512_set1_epi32(pair))};
}
DF_SIMD F32 multiply_lanes(const BF16*, F32 left, F32 right, F32 sum) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)left.v, (__m512bh)right.v)};
}
DF_SIMD void store_lanes(BF16* p, F32 x) { _mm512_storeu_si512(p, _mm512_castps_si512(x.v)); }
#endif

// c [kRows, kVectors * kLanes] = or += a b.
template <int kRows, int kVectors, bool kAdd, class E>
DF_SIMD void multiply_tile(float* c, int64_t ldc, const E* a, int64_t lda, const E* b, int64_t ldb, int64_t k) {
  F32 sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = kAdd ? load(c + i * ldc + v * kLanes) : zero();
  for (int64_t l = 0; l < k; l += kGroup<E>) {
    F32 right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = load_lanes(b + l * ldb + v * kLanes * kGroup<E>);
    for (int i = 0; i < kRows; ++i) {
      const F32 left = splat_lane(a + i * lda + l);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = multiply_lanes(a, left, right[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) store(c + i * ldc + v * kLanes, sum[i][v]);
}

template <int kVectors, bool kAdd, class E>
void multiply_columns(float* c, int64_t ldc, const E* a, int64_t lda, const E* b, int64_t ldb, int64_t rows,
                      int64_t k) {
  int64_t i = 0;  // six rows at a time fill the registers; 4 or 8 remain of a multiple of 16
  for (; rows - i >= 6 && rows - i != 8; i += 6)
    multiply_tile<6, kVectors, kAdd>(c + i * ldc, ldc, a + i * lda, lda, b, ldb, k);
  for (; i < rows; i += 4) multiply_tile<4, kVectors, kAdd>(c + i * ldc, ldc, a + i * lda, lda, b, ldb, k);
}

// c [rows, cols] f32 = or += a [rows, k] b [k, cols]. rows: a multiple of 4, cols: of 16, k: of kGroup<E>. lda in
// elements, ldb in lanes.
template <bool kAdd, class E>
void multiply(float* c, int64_t ldc, const E* a, int64_t lda, const E* b, int64_t ldb, int64_t rows, int64_t cols,
              int64_t k) {
  constexpr int kWide = kLanes == 16 ? 4 : 2;
  int64_t j = 0;
  for (; j + kWide * kLanes <= cols; j += kWide * kLanes)
    multiply_columns<kWide, kAdd>(c + j, ldc, a, lda, b + j * kGroup<E>, ldb, rows, k);
  const int64_t vectors = (cols - j) / kLanes;
  if (vectors == 1) multiply_columns<1, kAdd>(c + j, ldc, a, lda, b + j * kGroup<E>, ldb, rows, k);
  if (kWide == 4 && vectors == 2) multiply_columns<2, kAdd>(c + j, ldc, a, lda, b + j * kGroup<E>, ldb, rows, k);
  if (kWide == 4 && vectors == 3) multiply_columns<3, kAdd>(c + j, ldc, a, lda, b + j * kGroup<E>, ldb, rows, k);
}

// Rows of one head lie a whole row of the model apart, every one a cache miss: asks for row `r` some rows early.
template <class T>
DF_SIMD void prefetch_row(const T* from, int64_t ld, int64_t r, int64_t cols) {
  constexpr int64_t kAhead = 24, kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < cols; j += kLine) __builtin_prefetch(from + (r + kAhead) * ld + j);
}

// Copies [rows, cols] of stored elements to operands [padded_rows, ldd], zero beyond.
template <class T, class E>
void stage(const T* from, int64_t ld, int64_t rows, int64_t cols, E* to, int64_t ldd, int64_t padded_rows) {
  for (int64_t r = 0; r < padded_rows; ++r) {
    const int64_t filled = r < rows ? cols : 0;
    prefetch_row(from, ld, r, cols);
    int64_t j = 0;
    for (; j + kLanes <= filled; j += kLanes) store(to + r * ldd + j, load(from + r * ld + j));
    if (j < filled) {
      store(to + r * ldd + j, load(from + r * ld + j, filled - j));
      j += kLanes;
    }
    for (; j < ldd; j += kLanes) store(to + r * ldd + j, zero());
  }
}
// The same for whole vectors of lanes that need no conversion.
template <class E>
void stage_whole(const E* from, int64_t ld, int64_t rows, E* to, int64_t ldd, int64_t padded_rows) {
  constexpr int64_t kStep = kLanes * kGroup<E>;
  for (int64_t r = 0; r < rows; ++r) {
    prefetch_row(from, ld, r, ldd);
    for (int64_t j = 0; j < ldd; j += kStep) store_lanes(to + r * ldd + j, load_lanes(from + r * ld + j));
  }
  for (int64_t i = rows * ldd; i < padded_rows * ldd; i += kStep) store_lanes(to + i, zero());
}
template <class E>
void stage(const E* from, int64_t ld, int64_t rows, int64_t cols, E* to, int64_t ldd, int64_t padded_rows) {
  if (cols == ldd)
    stage_whole(from, ld, rows, to, ldd, padded_rows);
  else
    stage<E, E>(from, ld, rows, cols, to, ldd, padded_rows);
}

// to [cols, rows] lanes = from [rows, cols] lanes, transposed. rows, cols: multiples of 16; strides in lanes.
template <class E>
void transpose_lanes(const E* from, int64_t ld, int64_t rows, int64_t cols, E* to, int64_t ldd) {
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t c = 0; c < cols; c += kLanes) {
      F32 square[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) square[i] = load_lanes(from + ((r + i) * ld + c) * kGroup<E>);
      transpose_square(square);
      for (int64_t i = 0; i < kLanes; ++i) store_lanes(to + ((c + i) * ldd + r) * kGroup<E>, square[i]);
    }
}

// Row-major [k, cols] as a right operand: rows side by side in lanes. k: even, cols: a multiple of 16; ldd in lanes.
DF_SIMD void pair_rows(const float* from, int64_t ld, int64_t k, int64_t cols, float* to, int64_t ldd) {
  for (int64_t r = 0; r < k; ++r)
    for (int64_t j = 0; j < cols; j += kLanes) store(to + r * ldd + j, load(from + r * ld + j));
}
#ifdef __AVX512BF16__
DF_SIMD void pair_rows(const BF16* from, int64_t ld, int64_t k, int64_t cols, BF16* to, int64_t ldd) {
  for (int64_t r = 0; r < k; r += 2)
    for (int64_t j = 0; j < cols; j += kLanes) {
      const BF16 *even = from + r * ld + j, *odd = even + ld;
      const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even)));
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd)));
      _mm512_storeu_si512(to + r * ldd + 2 * j, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}
#endif

// exp(score * scale - shift), where factor = scale * exponent_unit and shift is already multiplied by it.
template <class T>
DF_SIMD float exponent_unit(const T*) {
  return 1.0f;
}
template <class T>
DF_SIMD F32 weight_of(const T*, F32 score, F32 factor, F32 shift) {
  return exp(score * factor - shift);
}
DF_SIMD float exponent_unit(const BF16*) { return kLog2E; }
DF_SIMD F32 weight_of(const BF16*, F32 score, F32 factor, F32 shift) {
  return rough_exp2(fma(score, factor, zero() - shift));
}

// What is multiplied with a stored product q . k to give its score, once `squash` has put the tanh of a soft cap there.
template <class T>
DF_SIMD float score_scale(const AttentionGroup<T>& a) {
  return a.softcap > 0 ? a.softcap : a.scale;
}
template <class T>
DF_SIMD F32 squash(const T*, F32 x) {
  return tanh(x);
}
DF_SIMD F32 squash(const BF16*, F32 x) {
  const F32 e = rough_exp2(min(splat(115.0f), x * splat(2 * kLog2E)));
  return fnma(splat(2.0f), rough_reciprocal(e + splat(1.0f)), splat(1.0f));
}

// First key row that query row r attends to, in all runs of keys: below 0 where it stands in an earlier one.
template <class T>
DF_SIMD int64_t first_key_of_all(const AttentionGroup<T>& a, int64_t r) {
  const int64_t document = (a.document_start ? a.document_start[r] : 0) - a.origin;
  return a.window > 0 ? larger(document, a.past + r - a.window + 1) : document;
}

// First key row of this run that query row r of the group attends to.
template <class T>
DF_SIMD int64_t first_key(const AttentionGroup<T>& a, int64_t r) {
  return larger(first_key_of_all(a, r), 0);
}

// Hands out pieces of a scratch block, or only counts them where `base` is null.
struct Scratch {
  char* base;
  size_t used = 0;
  template <class E>
  E* take(int64_t count) {
    E* p = base ? reinterpret_cast<E*>(base + used) : nullptr;
    used += (static_cast<size_t>(count) * sizeof(E) + 63) / 64 * 64;
    return p;
  }
};

}  // namespace deepflow::cpu::DF_ISA
