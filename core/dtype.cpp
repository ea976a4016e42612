#include "core/dtype.h"

#include "core/error.h"

namespace deepflow {
namespace {

struct Description {
  const char* name;
  size_t size;
};
constexpr Description kDescriptions[] = {{"f32", 4}, {"bf16", 2}, {"f16", 2}, {"i32", 4}, {"i64", 8}, {"u8", 1}};

}  // namespace

size_t size_of(DType dtype) { return kDescriptions[static_cast<int>(dtype)].size; }

const char* name_of(DType dtype) { return kDescriptions[static_cast<int>(dtype)].name; }

DType dtype_from_name(const std::string& name) {
  for (int i = 0; i < 6; ++i)
    if (name == kDescriptions[i].name) return static_cast<DType>(i);
  throw ConfigError("{} is not a dtype; expected f32, bf16, f16, i32, i64 or u8", name);
}

// In integers, because clang 14 has no half type on x86.
float to_float(F16 x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16, exponent = x.bits >> 10 & 31, mantissa = x.bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | mantissa << 13);
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

F16 to_f16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x3ffu);
  } else if (magnitude >= 0x38800000u) {  // 2^-14: normal in f16, if it does not round up to infinity
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    half = rounded >= 0x47800000u ? 0x7c00u : (rounded - 0x38000000u) >> 13;
  } else {  // the last place of 0.5 is that of a subnormal f16
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  }
  return {static_cast<uint16_t>(sign | half)};
}

}  // namespace deepflow
