#pragma once

#include "core/cpu_features.h"

#include <cstdint>
#include <span>

namespace deepflow {

// Passes over raw bytes, at the speed of memory, on the calling thread.

// Plane p holds byte p (the least significant first) of each of n values of planes.size() bytes: 1, 2, 4 or 8. With
// `rotate` of each value rotated left by one bit, so that the exponent of a bf16 or f32 fills the last plane, and the
// sign is the lowest bit of the first. `values` may lie anywhere; planes do not overlap with it or one another.
void split_byte_planes(CpuIsa isa, const char* values, int64_t n, bool rotate, std::span<char* const> planes);
void join_byte_planes(CpuIsa isa, std::span<const char* const> planes, int64_t n, bool rotate, char* values);

// out = a XOR b, of equal lengths; out may be a or b.
void xor_bytes(CpuIsa isa, std::span<const char> a, std::span<const char> b, std::span<char> out);

}  // namespace deepflow
