#include "checkpoint/codecs/scaled_groups.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace deepflow {
namespace {

bool can_hold(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

size_t num_groups(size_t num_values) { return (num_values + kScaledGroup - 1) / kScaledGroup; }

template <class T>
T narrowed(float x) {
  if constexpr (std::is_same_v<T, BF16>)
    return to_bf16(x);
  else
    return x;
}

template <class T>
float value_at(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return to_float(value);
}

template <class T>
void put_value(char* at, float x) {
  const T value = narrowed<T>(x);
  std::memcpy(at, &value, sizeof(T));
}

// A group, filled up with zeros. Returns the largest magnitude, or infinity where a value is not finite.
template <class T>
float load_group(const char* raw, size_t count, float (&values)[kScaledGroup]) {
  std::fill(values, values + kScaledGroup, 0.0f);
  for (size_t i = 0; i < count; ++i) values[i] = value_at<T>(raw + i * sizeof(T));
  float largest = 0, check = 0;
  for (const float x : values) {
    largest = std::max(largest, std::fabs(x));
    check += x * 0;  // NaN when x is not finite
  }
  return check == 0 ? largest : std::numeric_limits<float>::infinity();
}

}  // namespace

template <class T>
size_t ScaledGroupsCodec::encode_values(const char* raw, size_t n, char* out) const {
  char* scales = out;
  char* codes_out = out + num_groups(n) * sizeof(T);
  for (size_t first = 0; first < n; first += kScaledGroup) {
    const size_t count = std::min(kScaledGroup, n - first);
    float values[kScaledGroup];
    const float largest = load_group<T>(raw + first * sizeof(T), count, values);
    if (std::isinf(largest)) return 0;
    put_value<T>(scales, largest);
    scales += sizeof(T);
    for (float& x : values) x = largest > 0 ? x / largest : 0;
    uint8_t codes[kScaledGroup];
    nearest_codes(values, codes);
    if (code_bits_ == 4)
      for (size_t i = 0; i < kScaledGroup / 2; ++i)
        codes[i] = static_cast<uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
    std::memcpy(codes_out, codes, code_bytes(count));
    codes_out += code_bytes(count);
  }
  return static_cast<size_t>(codes_out - out);
}

template <class T>
void ScaledGroupsCodec::decode_values(const char* stored, size_t n, char* raw) const {
  const char* codes = stored + num_groups(n) * sizeof(T);
  for (size_t first = 0; first < n; first += kScaledGroup) {
    const float scale = value_at<T>(stored + first / kScaledGroup * sizeof(T));
    if (!(scale >= 0) || std::isinf(scale)) throw DataError("a group is scaled by {}", scale);
    const size_t count = std::min(kScaledGroup, n - first);
    for (size_t i = 0; i < count; ++i) {
      const uint8_t code = static_cast<uint8_t>(code_bits_ == 4 ? (codes[i / 2] >> (i % 2 * 4)) & 15 : codes[i]);
      put_value<T>(raw + (first + i) * sizeof(T), levels_[code] * scale);
    }
    codes += code_bytes(count);
  }
}

size_t ScaledGroupsCodec::encode(std::span<const char> raw, DType dtype, std::span<char> out) {
  DF_ASSERT(out.size() >= bound(raw.size()), "{} bytes for a block of {}", out.size(), raw.size());
  if (!can_hold(dtype) || raw.size() % size_of(dtype) != 0) return 0;
  const size_t n = raw.size() / size_of(dtype);
  if (num_groups(n) * size_of(dtype) + code_bytes(n) >= raw.size()) return 0;
  return dtype == DType::kF32 ? encode_values<float>(raw.data(), n, out.data())
                              : encode_values<BF16>(raw.data(), n, out.data());
}

void ScaledGroupsCodec::decode(std::span<const char> stored, DType dtype, std::span<char> raw) {
  if (!can_hold(dtype) || raw.size() % size_of(dtype) != 0)
    throw DataError("{} bytes of {} cannot be in codec {}", raw.size(), name_of(dtype), name_of(id()));
  const size_t n = raw.size() / size_of(dtype), expected = num_groups(n) * size_of(dtype) + code_bytes(n);
  if (stored.size() != expected) throw DataError("{} bytes stored, expected {}", stored.size(), expected);
  if (dtype == DType::kF32)
    decode_values<float>(stored.data(), n, raw.data());
  else
    decode_values<BF16>(stored.data(), n, raw.data());
}

}  // namespace deepflow
