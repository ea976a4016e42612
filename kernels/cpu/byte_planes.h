#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// kernels/ops/byte_planes.h: n values of `width` bytes (1, 2, 4, 8) and their planes of n bytes.
DF_DECLARE_KERNELS(void split_byte_planes(const uint8_t* values, int64_t n, int width, bool rotate,
                                          uint8_t* const* planes);
                   void join_byte_planes(const uint8_t* const* planes, int64_t n, int width, bool rotate,
                                         uint8_t* values);
                   void xor_bytes(const uint8_t* a, const uint8_t* b, int64_t n, uint8_t* out);)

}  // namespace deepflow::cpu
