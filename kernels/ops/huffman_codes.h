#pragma once

#include "core/cpu_features.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace deepflow {

// The passes over bytes of a Huffman coder for few symbols, on the calling thread.

constexpr size_t kHuffmanSymbols = 64;  // bytes from a base to 63 above it

struct ByteRange {
  uint8_t least, most;
};
ByteRange byte_range(CpuIsa isa, std::span<const char> bytes);  // of at least one
// How often base, base + 1, ... occur; all bytes are among them.
std::array<uint32_t, kHuffmanSymbols> count_near_bytes(CpuIsa isa, std::span<const char> bytes, uint8_t base);

// A code of `length` bits, 1 to 11; 0: no such symbol.
struct HuffmanCode {
  uint16_t bits;
  uint8_t length;
};

// Writes the codes of bytes from the last to the first, each above those before it, then a 1: a Huffman-coded stream of
// zstd (RFC 8878, section 4.2.2). Returns its length. `out` has room for it and 8 bytes more.
size_t put_huffman_codes(CpuIsa isa, std::span<const char> bytes, uint8_t base,
                         std::span<const HuffmanCode, kHuffmanSymbols> codes, char* out);

// Adds `base` to every byte, modulo 256.
void add_to_bytes(CpuIsa isa, std::span<char> bytes, uint8_t base);

}  // namespace deepflow
