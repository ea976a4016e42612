#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

namespace deepflow {

enum class DType : uint8_t { kF32, kBF16, kF16, kI32, kI64, kU8 };

size_t size_of(DType dtype);
const char* name_of(DType dtype);                // "f32", "bf16", "f16", "i32", "i64", "u8"
DType dtype_from_name(const std::string& name);  // throws ConfigError

// Storage types. Arithmetic is done in f32; conversion rounds to nearest even, NaN stays NaN.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

[[gnu::always_inline]] inline float to_float(BF16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
[[gnu::always_inline]] inline float to_float(float x) { return x; }
[[gnu::always_inline]] inline BF16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}
float to_float(F16 x);
F16 to_f16(float x);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<BF16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<F16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};

}  // namespace deepflow
