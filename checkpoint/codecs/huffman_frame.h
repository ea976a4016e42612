#pragma once

#include "core/cpu_features.h"

#include <cstdint>
#include <optional>
#include <span>

namespace deepflow {

// A zstd frame (RFC 8878) of one block, all literals, Huffman-coded: what zstd itself writes when it looks for no
// matches, in half the time. Exponents are few and stand close together, so the frame is of each byte less the least
// one (modulo 256): then the code's description is short.
struct HuffmanFrame {
  uint8_t base;
  size_t length;
};

// Writes the frame of `bytes` to `out`, which has half as much room again as `bytes` and 256 bytes more. Nothing for
// bytes that differ by 64 or more, are all the same, or are fewer than 1024 or more than 128 KiB; then zstd has to do
// it.
std::optional<HuffmanFrame> write_huffman_frame(CpuIsa isa, std::span<const char> bytes, std::span<char> out);

}  // namespace deepflow
