#include "kernels/ops/huffman_codes.h"

#include "kernels/cpu/huffman_codes.h"

namespace deepflow {

namespace {

const uint8_t* begin_of(std::span<const char> bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); }

}  // namespace

ByteRange byte_range(CpuIsa isa, std::span<const char> bytes) {
  ByteRange range{};
  auto* kernel = DF_KERNEL(isa, byte_range);
  kernel(begin_of(bytes), static_cast<int64_t>(bytes.size()), &range.least, &range.most);
  return range;
}

std::array<uint32_t, kHuffmanSymbols> count_near_bytes(CpuIsa isa, std::span<const char> bytes, uint8_t base) {
  std::array<uint32_t, kHuffmanSymbols> counts;
  auto* kernel = DF_KERNEL(isa, count_near_bytes);
  kernel(begin_of(bytes), static_cast<int64_t>(bytes.size()), base, counts.data());
  return counts;
}

size_t put_huffman_codes(CpuIsa isa, std::span<const char> bytes, uint8_t base,
                         std::span<const HuffmanCode, kHuffmanSymbols> codes, char* out) {
  uint16_t entries[kHuffmanSymbols];
  for (size_t s = 0; s < kHuffmanSymbols; ++s) entries[s] = static_cast<uint16_t>(codes[s].bits << 4 | codes[s].length);
  uint8_t* begin = reinterpret_cast<uint8_t*>(out);
  auto* kernel = DF_KERNEL(isa, put_huffman_codes);
  const uint8_t* end =
      kernel(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int64_t>(bytes.size()), base, entries, begin);
  return static_cast<size_t>(end - begin);
}

void add_to_bytes(CpuIsa isa, std::span<char> bytes, uint8_t base) {
  auto* kernel = DF_KERNEL(isa, add_to_bytes);
  kernel(reinterpret_cast<uint8_t*>(bytes.data()), static_cast<int64_t>(bytes.size()), base);
}

}  // namespace deepflow
