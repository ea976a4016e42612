#include "kernels/cpu/byte_planes.h"

#include <immintrin.h>

namespace deepflow::cpu::DF_ISA {
namespace {

template <class T>
T rotated_left(T x) {
  return static_cast<T>(x << 1 | x >> (8 * sizeof(T) - 1));
}
template <class T>
T rotated_right(T x) {
  return static_cast<T>(x >> 1 | x << (8 * sizeof(T) - 1));
}

// One value after another: whole vectors leave the rest to these.
template <class T>
void split_values(const uint8_t* values, int64_t first, int64_t n, bool rotate, uint8_t* const* planes) {
  for (int64_t i = first; i < n; ++i) {
    T x;
    __builtin_memcpy(&x, values + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    if (rotate) x = rotated_left(x);
    for (unsigned p = 0; p < sizeof(T); ++p) planes[p][i] = static_cast<uint8_t>(x >> (8 * p));
  }
}
template <class T>
void join_values(const uint8_t* const* planes, int64_t first, int64_t n, bool rotate, uint8_t* values) {
  for (int64_t i = first; i < n; ++i) {
    T x = 0;
    for (unsigned p = 0; p < sizeof(T); ++p) x = static_cast<T>(x | static_cast<T>(planes[p][i]) << (8 * p));
    if (rotate) x = rotated_right(x);
    __builtin_memcpy(values + i * static_cast<int64_t>(sizeof(T)), &x, sizeof(T));
  }
}

#ifdef __AVX512F__

using Vector = __m512i;
constexpr int64_t kBytes = 64;
inline Vector load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline void store(uint8_t* p, Vector x) { _mm512_storeu_si512(p, x); }
inline Vector either(Vector a, Vector b) { return _mm512_or_si512(a, b); }
inline Vector exclusive(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
inline Vector shifted_left(Vector x, int bits) { return _mm512_slli_epi16(x, static_cast<unsigned>(bits)); }
inline Vector shifted_right(Vector x, int bits) { return _mm512_srli_epi16(x, static_cast<unsigned>(bits)); }
inline Vector rotated_left32(Vector x) { return _mm512_rol_epi32(x, 1); }
inline Vector rotated_right32(Vector x) { return _mm512_ror_epi32(x, 1); }
inline Vector low_bytes() { return _mm512_set1_epi16(0xff); }
// The low bytes of the 16-bit lanes of a, then those of b; no lane is above 255.
inline Vector narrowed(Vector a, Vector b) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packus_epi16(a, b));
}
// Quarters of a plane's 64 bytes that unpacking will put in order.
inline Vector spread(Vector x) { return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), x); }
inline Vector unpacked_low(Vector a, Vector b) { return _mm512_unpacklo_epi8(a, b); }
inline Vector unpacked_high(Vector a, Vector b) { return _mm512_unpackhi_epi8(a, b); }

// Bytes 0, 4, 8, 12, then 1, 5, ... of 16: its own inverse.
inline Vector byte_square() {
  return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}
// 16 values with byte p of all of them in quarter p, and back.
inline Vector quarters_of(Vector values) {
  const Vector order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_shuffle_epi8(values, byte_square()));
}
inline Vector values_of(Vector quarters) {
  const Vector order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, quarters), byte_square());
}
// Quarter i of x[j] becomes quarter j of x[i].
inline void transpose_quarters(Vector x[4]) {
  const Vector a = _mm512_shuffle_i32x4(x[0], x[1], 0x44), b = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
  const Vector c = _mm512_shuffle_i32x4(x[0], x[1], 0xee), d = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
  x[0] = _mm512_shuffle_i32x4(a, b, 0x88);
  x[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
  x[2] = _mm512_shuffle_i32x4(c, d, 0x88);
  x[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

#else  // AVX2

using Vector = __m256i;
constexpr int64_t kBytes = 32;
inline Vector load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store(uint8_t* p, Vector x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
inline Vector either(Vector a, Vector b) { return _mm256_or_si256(a, b); }
inline Vector exclusive(Vector a, Vector b) { return _mm256_xor_si256(a, b); }
inline Vector shifted_left(Vector x, int bits) { return _mm256_slli_epi16(x, bits); }
inline Vector shifted_right(Vector x, int bits) { return _mm256_srli_epi16(x, bits); }
inline Vector rotated_left32(Vector x) { return either(_mm256_slli_epi32(x, 1), _mm256_srli_epi32(x, 31)); }
inline Vector rotated_right32(Vector x) { return either(_mm256_srli_epi32(x, 1), _mm256_slli_epi32(x, 31)); }
inline Vector low_bytes() { return _mm256_set1_epi16(0xff); }
inline Vector narrowed(Vector a, Vector b) { return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8); }
inline Vector spread(Vector x) { return _mm256_permute4x64_epi64(x, 0xd8); }
inline Vector unpacked_low(Vector a, Vector b) { return _mm256_unpacklo_epi8(a, b); }
inline Vector unpacked_high(Vector a, Vector b) { return _mm256_unpackhi_epi8(a, b); }

inline Vector byte_square() {
  return _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}
// 8 values with byte p of all of them in quarter p, and back.
inline Vector quarters_of(Vector values) {
  return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(values, byte_square()),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
inline Vector values_of(Vector quarters) {
  const Vector order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  return _mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(quarters, order), byte_square());
}
inline void transpose_quarters(Vector x[4]) {
  const Vector a = _mm256_unpacklo_epi64(x[0], x[1]), b = _mm256_unpackhi_epi64(x[0], x[1]);
  const Vector c = _mm256_unpacklo_epi64(x[2], x[3]), d = _mm256_unpackhi_epi64(x[2], x[3]);
  x[0] = _mm256_permute2x128_si256(a, c, 0x20);
  x[1] = _mm256_permute2x128_si256(b, d, 0x20);
  x[2] = _mm256_permute2x128_si256(a, c, 0x31);
  x[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

#endif

// A pass over whole vectors of each plane; returns how many values are done.
template <bool kRotate>
int64_t split_2(const uint8_t* values, int64_t n, uint8_t* const* planes) {
  int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) {
    Vector a = load(values + 2 * i), b = load(values + 2 * i + kBytes);
    if constexpr (kRotate) {
      a = either(shifted_left(a, 1), shifted_right(a, 15));
      b = either(shifted_left(b, 1), shifted_right(b, 15));
    }
    store(planes[1] + i, narrowed(shifted_right(a, 8), shifted_right(b, 8)));
    store(planes[0] + i, narrowed(a & low_bytes(), b & low_bytes()));
  }
  return i;
}

template <bool kRotate>
int64_t join_2(const uint8_t* const* planes, int64_t n, uint8_t* values) {
  int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) {
    const Vector low = spread(load(planes[0] + i)), high = spread(load(planes[1] + i));
    Vector a = unpacked_low(low, high), b = unpacked_high(low, high);
    if constexpr (kRotate) {
      a = either(shifted_right(a, 1), shifted_left(a, 15));
      b = either(shifted_right(b, 1), shifted_left(b, 15));
    }
    store(values + 2 * i, a);
    store(values + 2 * i + kBytes, b);
  }
  return i;
}

template <bool kRotate>
int64_t split_4(const uint8_t* values, int64_t n, uint8_t* const* planes) {
  int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) {
    Vector x[4];
    for (int j = 0; j < 4; ++j) {
      x[j] = load(values + 4 * i + j * kBytes);
      if constexpr (kRotate) x[j] = rotated_left32(x[j]);
      x[j] = quarters_of(x[j]);
    }
    transpose_quarters(x);
    for (int p = 0; p < 4; ++p) store(planes[p] + i, x[p]);
  }
  return i;
}

template <bool kRotate>
int64_t join_4(const uint8_t* const* planes, int64_t n, uint8_t* values) {
  int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) {
    Vector x[4];
    for (int p = 0; p < 4; ++p) x[p] = load(planes[p] + i);
    transpose_quarters(x);
    for (int j = 0; j < 4; ++j) {
      x[j] = values_of(x[j]);
      if constexpr (kRotate) x[j] = rotated_right32(x[j]);
      store(values + 4 * i + j * kBytes, x[j]);
    }
  }
  return i;
}

}  // namespace

void split_byte_planes(const uint8_t* values, int64_t n, int width, bool rotate, uint8_t* const* planes) {
  if (width == 2) {
    const int64_t done = rotate ? split_2<true>(values, n, planes) : split_2<false>(values, n, planes);
    split_values<uint16_t>(values, done, n, rotate, planes);
  } else if (width == 4) {
    const int64_t done = rotate ? split_4<true>(values, n, planes) : split_4<false>(values, n, planes);
    split_values<uint32_t>(values, done, n, rotate, planes);
  } else if (width == 8) {
    split_values<uint64_t>(values, 0, n, rotate, planes);
  } else {
    split_values<uint8_t>(values, 0, n, rotate, planes);
  }
}

void join_byte_planes(const uint8_t* const* planes, int64_t n, int width, bool rotate, uint8_t* values) {
  if (width == 2) {
    const int64_t done = rotate ? join_2<true>(planes, n, values) : join_2<false>(planes, n, values);
    join_values<uint16_t>(planes, done, n, rotate, values);
  } else if (width == 4) {
    const int64_t done = rotate ? join_4<true>(planes, n, values) : join_4<false>(planes, n, values);
    join_values<uint32_t>(planes, done, n, rotate, values);
  } else if (width == 8) {
    join_values<uint64_t>(planes, 0, n, rotate, values);
  } else {
    join_values<uint8_t>(planes, 0, n, rotate, values);
  }
}

void xor_bytes(const uint8_t* a, const uint8_t* b, int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + kBytes <= n; i += kBytes) store(out + i, exclusive(load(a + i), load(b + i)));
  for (; i < n; ++i) out[i] = a[i] ^ b[i];
}

}  // namespace deepflow::cpu::DF_ISA
