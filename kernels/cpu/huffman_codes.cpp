#include "kernels/cpu/huffman_codes.h"

#include <immintrin.h>

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int kCodes = 64;

inline __m256i load_32(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// Bits that are not yet a byte, below those that are.
struct BitWriter {
  uint64_t bits = 0;
  unsigned count = 0;
  uint8_t* out;

  // At most 56 bits.
  [[gnu::always_inline]] void put(uint64_t code, unsigned length) {
    bits |= code << count;
    count += length;
    __builtin_memcpy(out, &bits, 8);
    out += count / 8;
    bits >>= count & ~7u;
    count &= 7;
  }
  void put_entry(uint16_t entry) { put(entry >> 4, entry & 15u); }
};

#ifdef __AVX512F__

constexpr int64_t kBlock = 32;

// Neighbouring codes are joined, the later one below, until eight are one: of two in a lane, then of two lanes. Codes
// of eight symbols that have more than 56 bits together are written as two times four.
[[gnu::always_inline]] inline void put_block(BitWriter& writer, const uint8_t* symbols, __m512i base, __m512i low,
                                             __m512i high) {
  const __m512i bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols)));
  const __m512i entry = _mm512_permutex2var_epi16(low, _mm512_sub_epi16(bytes, base), high);
  __m512i code = _mm512_srli_epi16(entry, 4), length = _mm512_and_si512(entry, _mm512_set1_epi16(15));
  const __m512i low16 = _mm512_set1_epi32(0xffff), low32 = _mm512_set1_epi64(0xffffffff);
  __m512i later = _mm512_srli_epi32(length, 16);
  code = _mm512_or_si512(_mm512_srli_epi32(code, 16), _mm512_sllv_epi32(_mm512_and_si512(code, low16), later));
  length = _mm512_add_epi32(_mm512_and_si512(length, low16), later);
  later = _mm512_srli_epi64(length, 32);
  code = _mm512_or_si512(_mm512_srli_epi64(code, 32), _mm512_sllv_epi64(_mm512_and_si512(code, low32), later));
  length = _mm512_add_epi64(_mm512_and_si512(length, low32), later);
  later = _mm512_shuffle_epi32(length, _MM_PERM_BADC);
  const __m512i length_8 = _mm512_add_epi64(length, later);
  alignas(64) uint64_t codes[8], lengths[8];
  if (_mm512_cmpgt_epu64_mask(length_8, _mm512_set1_epi64(56)) != 0) {
    _mm512_store_si512(codes, code);
    _mm512_store_si512(lengths, length);
    for (int i = 7; i >= 0; --i) writer.put(codes[i], static_cast<unsigned>(lengths[i]));
    return;
  }
  _mm512_store_si512(codes, _mm512_or_si512(_mm512_shuffle_epi32(code, _MM_PERM_BADC), _mm512_sllv_epi64(code, later)));
  _mm512_store_si512(lengths, length_8);
  for (int i = 6; i >= 0; i -= 2) writer.put(codes[i], static_cast<unsigned>(lengths[i]));
}

#endif

}  // namespace

void byte_range(const uint8_t* bytes, int64_t n, uint8_t* least, uint8_t* most) {
  __m256i low = _mm256_set1_epi8(-1), high = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    low = _mm256_min_epu8(low, load_32(bytes + i));
    high = _mm256_max_epu8(high, load_32(bytes + i));
  }
  uint8_t lows[32], highs[32];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lows), low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(highs), high);
  *least = 255;
  *most = 0;
  const auto take = [&](uint8_t l, uint8_t h) {
    if (l < *least) *least = l;
    if (h > *most) *most = h;
  };
  for (int j = 0; j < 32; ++j) take(lows[j], highs[j]);
  for (; i < n; ++i) take(bytes[i], bytes[i]);
}

// Counts pairs: half as many counters to step, and the same one seldom twice in a row.
void count_near_bytes(const uint8_t* bytes, int64_t n, uint8_t base, uint32_t* counts) {
  uint32_t pairs[kCodes * kCodes];
  __builtin_memset(pairs, 0, sizeof(pairs));
  __builtin_memset(counts, 0, kCodes * sizeof(uint32_t));
  const __m256i bases = _mm256_set1_epi8(static_cast<char>(base)), places = _mm256_set1_epi16(1 | kCodes << 8);
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    uint16_t pair[16];
    const __m256i symbols = _mm256_sub_epi8(load_32(bytes + i), bases);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pair), _mm256_maddubs_epi16(symbols, places));
    for (int j = 0; j < 16; ++j) ++pairs[pair[j]];
  }
  for (; i < n; ++i) ++counts[bytes[i] - base];
  for (int second = 0; second < kCodes; ++second)
    for (int first = 0; first < kCodes; ++first) {
      counts[first] += pairs[second * kCodes + first];
      counts[second] += pairs[second * kCodes + first];
    }
}

uint8_t* put_huffman_codes(const uint8_t* symbols, int64_t n, uint8_t base, const uint16_t* codes, uint8_t* out) {
  BitWriter writer;
  writer.out = out;
  int64_t i = n;
#ifdef __AVX512F__
  const __m512i low = _mm512_loadu_si512(codes), high = _mm512_loadu_si512(codes + kCodes / 2);
  const __m512i base16 = _mm512_set1_epi16(base);
  while (i % kBlock != 0) --i, writer.put_entry(codes[symbols[i] - base]);
  for (; i > 0; i -= kBlock) put_block(writer, symbols + i - kBlock, base16, low, high);
#endif
  while (i > 0) --i, writer.put_entry(codes[symbols[i] - base]);
  writer.put(1, 1);
  return writer.out + (writer.count != 0);
}

void add_to_bytes(uint8_t* bytes, int64_t n, uint8_t base) {
  for (int64_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(bytes[i] + base);
}

}  // namespace deepflow::cpu::DF_ISA
