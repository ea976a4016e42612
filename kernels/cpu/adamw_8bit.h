#pragma once

#include "kernels/cpu/optimizer_update.h"

#include <cstdint>

namespace deepflow::cpu {

// A map of 8-bit codes to values of magnitude 1 or less. Codes 0 to `largest` are the values that are not negative, in
// order; with negative ones (has_sign) code largest + k is that of k with its sign turned.
struct CodeMap {
  const float* value;     // [256]
  const float* middle;    // [largest + 1]: where k + 1 is as near as k; infinity behind the last
  const uint8_t* coarse;  // [kCoarse]: the code of the least magnitude of a cell (kernels/ops/adamw_8bit.cpp)
  int largest;
  bool has_sign;
};
// Cells of magnitudes: a f32's exponent and 7 bits of fraction, from 2^-23 to 1. No cell holds two middles.
constexpr uint32_t kFirstCell = (127u - 23u) << 7, kCoarse = (127u << 7) - kFirstCell + 1;

// A block that is quantised together has at most so many elements.
constexpr int64_t kLargestBlock = 64;
struct QuantisedMoments {
  uint8_t *m, *root;
  float *m_scale, *root_scale;
};

// kernels/ops/adamw_8bit.h: one block of n elements.
DF_DECLARE_KERNELS(void adamw_8bit(const AdamwConstants& constants, const CodeMap& signed_map,
                                   const CodeMap& unsigned_map, float* master, const QuantisedMoments& moments,
                                   const float* gradient, int64_t n);)

}  // namespace deepflow::cpu
