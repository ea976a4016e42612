#include "kernels/ops/byte_planes.h"

#include "core/error.h"
#include "kernels/cpu/byte_planes.h"

namespace deepflow {
namespace {

constexpr size_t kMostPlanes = 8;

bool is_width(size_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }
uint8_t* bytes(char* p) { return reinterpret_cast<uint8_t*>(p); }
const uint8_t* bytes(const char* p) { return reinterpret_cast<const uint8_t*>(p); }

}  // namespace

void split_byte_planes(CpuIsa isa, const char* values, int64_t n, bool rotate, std::span<char* const> planes) {
  DF_ASSERT(is_width(planes.size()), "{} planes", planes.size());
  uint8_t* to[kMostPlanes];
  for (size_t p = 0; p < planes.size(); ++p) to[p] = bytes(planes[p]);
  DF_KERNEL(isa, split_byte_planes)(bytes(values), n, static_cast<int>(planes.size()), rotate, to);
}

void join_byte_planes(CpuIsa isa, std::span<const char* const> planes, int64_t n, bool rotate, char* values) {
  DF_ASSERT(is_width(planes.size()), "{} planes", planes.size());
  const uint8_t* from[kMostPlanes];
  for (size_t p = 0; p < planes.size(); ++p) from[p] = bytes(planes[p]);
  DF_KERNEL(isa, join_byte_planes)(from, n, static_cast<int>(planes.size()), rotate, bytes(values));
}

void xor_bytes(CpuIsa isa, std::span<const char> a, std::span<const char> b, std::span<char> out) {
  DF_ASSERT(a.size() == b.size() && a.size() == out.size(), "{}, {}, {} bytes", a.size(), b.size(), out.size());
  DF_KERNEL(isa, xor_bytes)(bytes(a.data()), bytes(b.data()), static_cast<int64_t>(a.size()), bytes(out.data()));
}

}  // namespace deepflow
