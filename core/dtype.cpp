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

// The compiler's own half type has IEEE conversions on every x86-64 (SSE2 software, F16C where enabled).
float to_float(F16 x) { return static_cast<float>(std::bit_cast<_Float16>(x.bits)); }

F16 to_f16(float x) { return {std::bit_cast<uint16_t>(static_cast<_Float16>(x))}; }

}  // namespace deepflow
