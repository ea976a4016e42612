#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// kernels/ops/huffman_codes.h: put_huffman_codes of one stream; returns the end of what it wrote.
DF_DECLARE_KERNELS(void byte_range(const uint8_t* bytes, int64_t n, uint8_t* least, uint8_t* most);
                   void count_near_bytes(const uint8_t* bytes, int64_t n, uint8_t base, uint32_t* counts);
                   uint8_t * put_huffman_codes(const uint8_t* symbols, int64_t n, uint8_t base, const uint16_t* codes,
                                               uint8_t* out);
                   void add_to_bytes(uint8_t* bytes, int64_t n, uint8_t base);)

}  // namespace deepflow::cpu
