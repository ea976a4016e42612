#include "kernels/cpu/adamw_8bit.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

DF_SIMD uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Of a magnitude of at most 1.
DF_SIMD int nearest_code(const CodeMap& map, float magnitude) {
  const uint32_t at = bits_of(magnitude) >> 16;
  const int low = map.coarse[at < kFirstCell ? 0 : at - kFirstCell];
  return low + (magnitude >= map.middle[low] ? 1 : 0);
}

float largest_magnitude(const float* x, int64_t n) {
  F32 most = zero();
  for_each_vector(n, [&](int64_t j, auto lanes) { most = max(most, abs(load(x + j, lanes))); });
  return reduce_max(most);
}

void dequantise(const CodeMap& map, const uint8_t* codes, float scale, float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = map.value[codes[i]] * scale;
}

float quantise_signed(const CodeMap& map, const float* x, uint8_t* codes, int64_t n) {
  const float scale = largest_magnitude(x, n);
  if (scale == 0) return 0;
  const int last_negative = 255 - map.largest;
  for (int64_t i = 0; i < n; ++i) {
    const bool negative = x[i] < 0;
    int code = nearest_code(map, (negative ? -x[i] : x[i]) / scale);
    if (negative && code > 0) code = map.largest + (code > last_negative ? last_negative : code);
    codes[i] = static_cast<uint8_t>(code);
  }
  return scale;
}

// What is not 0 stays so: a moment in a denominator.
float quantise_root(const CodeMap& map, const float* x, uint8_t* codes, int64_t n) {
  const float scale = largest_magnitude(x, n);
  if (scale == 0) return 0;
  for (int64_t i = 0; i < n; ++i) {
    const int code = nearest_code(map, x[i] / scale);
    codes[i] = static_cast<uint8_t>(code == 0 && x[i] > 0 ? 1 : code);
  }
  return scale;
}

}  // namespace

void adamw_8bit(const AdamwConstants& constants, const CodeMap& signed_map, const CodeMap& unsigned_map, float* master,
                const QuantisedMoments& moments, const float* gradient, int64_t n) {
  alignas(64) float m[kLargestBlock], v[kLargestBlock];
  dequantise(signed_map, moments.m, *moments.m_scale, m, n);
  dequantise(unsigned_map, moments.root, *moments.root_scale, v, n);
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 root = load(v + j, lanes);
    store(v + j, root * root, lanes);
  });
  adamw(constants, master, m, v, gradient, n);
  for_each_vector(n, [&](int64_t j, auto lanes) { store(v + j, sqrt(load(v + j, lanes)), lanes); });
  *moments.m_scale = quantise_signed(signed_map, m, moments.m, n);
  *moments.root_scale = quantise_root(unsigned_map, v, moments.root, n);
}

}  // namespace deepflow::cpu::DF_ISA
