#include "kernels/cpu/dropout.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

// Two vectors of numbers in [0, 2^24): the upper bits of random_words (core/random.h) for 2 kLanes columns, in order.
// Philox runs in 64-bit lanes, of which only the lower halves count between rounds.
#ifdef __AVX512F__
using Lanes = __m512i;
DF_SIMD Lanes splat_64(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
// Blocks in the order in which the interleaving at the end puts columns side by side.
DF_SIMD Lanes block_offsets() { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }
DF_SIMD Lanes add_64(Lanes a, Lanes b) { return _mm512_add_epi64(a, b); }
DF_SIMD Lanes bit_xor(Lanes a, Lanes b) { return _mm512_xor_si512(a, b); }
DF_SIMD Lanes product(Lanes a, Lanes b) { return _mm512_mul_epu32(a, b); }
DF_SIMD Lanes upper(Lanes a) { return _mm512_srli_epi64(a, 32); }
DF_SIMD Lanes join(Lanes low, Lanes high) { return _mm512_mask_blend_epi32(0xaaaa, low, _mm512_slli_epi64(high, 32)); }
DF_SIMD Lanes even(Lanes a, Lanes b) { return _mm512_unpacklo_epi64(a, b); }
DF_SIMD Lanes odd(Lanes a, Lanes b) { return _mm512_unpackhi_epi64(a, b); }
DF_SIMD F32 upper_bits(Lanes a) { return {_mm512_cvtepi32_ps(_mm512_srli_epi32(a, 8))}; }
#else
using Lanes = __m256i;
DF_SIMD Lanes splat_64(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
DF_SIMD Lanes block_offsets() { return _mm256_setr_epi64x(0, 2, 1, 3); }
DF_SIMD Lanes add_64(Lanes a, Lanes b) { return _mm256_add_epi64(a, b); }
DF_SIMD Lanes bit_xor(Lanes a, Lanes b) { return _mm256_xor_si256(a, b); }
DF_SIMD Lanes product(Lanes a, Lanes b) { return _mm256_mul_epu32(a, b); }
DF_SIMD Lanes upper(Lanes a) { return _mm256_srli_epi64(a, 32); }
DF_SIMD Lanes join(Lanes low, Lanes high) { return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xaa); }
DF_SIMD Lanes even(Lanes a, Lanes b) { return _mm256_unpacklo_epi64(a, b); }
DF_SIMD Lanes odd(Lanes a, Lanes b) { return _mm256_unpackhi_epi64(a, b); }
DF_SIMD F32 upper_bits(Lanes a) { return {_mm256_cvtepi32_ps(_mm256_srli_epi32(a, 8))}; }
#endif

DF_SIMD void random_columns(uint64_t key, uint64_t step, uint64_t row, uint64_t first_block, F32* out) {
  const Lanes high = bit_xor(splat_64(step << 24), add_64(splat_64(first_block), block_offsets()));
  Lanes c0 = splat_64(row), c1 = splat_64(row >> 32), c2 = high, c3 = upper(high);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const Lanes p0 = product(c0, splat_64(0xD2511F53u)), p1 = product(c2, splat_64(0xCD9E8D57u));
    c0 = bit_xor(bit_xor(upper(p1), c1), splat_64(k0));
    c2 = bit_xor(bit_xor(upper(p0), c3), splat_64(k1));
    c1 = p1;
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const Lanes first = join(c0, c1), second = join(c2, c3);
  out[0] = upper_bits(even(first, second));
  out[1] = upper_bits(odd(first, second));
}

}  // namespace

template <class T>
void dropout(const DropoutRows<T>& a, int64_t begin, int64_t end) {
  const F32 threshold = splat(static_cast<float>(a.threshold)), scale = splat(a.scale);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = a.x + row * a.cols;
    T* y = a.y + row * a.cols;
    for (int64_t first = 0; first < a.cols; first += 2 * kLanes) {
      F32 random[2];
      random_columns(a.key, a.step, static_cast<uint64_t>(a.row_ids[row]), static_cast<uint64_t>(first / 4), random);
      for (int64_t half = 0, j = first; half < 2 && j < a.cols; ++half, j += kLanes) {
        // Selected, not multiplied: what is dropped is 0 even where x is not finite.
        const Mask kept = random[half] >= threshold;
        if (j + kLanes <= a.cols)
          store(y + j, select(kept, load(x + j) * scale, zero()));
        else
          store(y + j, select(kept, load(x + j, a.cols - j) * scale, zero()), a.cols - j);
      }
    }
  }
}

template void dropout(const DropoutRows<float>&, int64_t, int64_t);
template void dropout(const DropoutRows<BF16>&, int64_t, int64_t);
template void dropout(const DropoutRows<F16>&, int64_t, int64_t);

}  // namespace deepflow::cpu::DF_ISA
