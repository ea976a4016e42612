#include "kernels/ops/huffman_codes.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace deepflow {
namespace {

constexpr uint8_t kBase = 200;  // base + 63 is above 255: symbols end there, sums wrap

std::vector<CpuIsa> variants() {
  std::vector<CpuIsa> result;
  const CpuIsa best = best_isa(detect_cpu());
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16})
    if (isa <= best) result.push_back(isa);
  return result;
}

std::vector<char> near_bytes(size_t n, int spread) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::vector<char> bytes(n);
  for (char& byte : bytes) byte = static_cast<char>(kBase + random() % static_cast<unsigned>(spread));
  return bytes;
}

TEST(HuffmanCodes, BytesAreCounted) {
  for (const CpuIsa isa : variants())
    for (const size_t n : {1, 31, 32, 33, 64, 1000}) {
      const std::vector<char> bytes = near_bytes(n, 50);
      uint8_t least = 255, most = 0;
      std::array<uint32_t, kHuffmanSymbols> expected{};
      for (const char byte : bytes) {
        const uint8_t b = static_cast<uint8_t>(byte);
        least = std::min(least, b);
        most = std::max(most, b);
        ++expected[static_cast<size_t>(b - kBase)];
      }
      const ByteRange range = byte_range(isa, bytes);
      EXPECT_EQ(range.least, least) << n;
      EXPECT_EQ(range.most, most) << n;
      EXPECT_EQ(count_near_bytes(isa, bytes, kBase), expected) << n;
    }
}

// Bit by bit, from the stream's start: what came last lies lowest.
std::vector<char> expected_stream(const std::vector<char>& bytes,
                                  const std::array<HuffmanCode, kHuffmanSymbols>& codes) {
  std::vector<bool> bits;
  for (size_t i = bytes.size(); i-- > 0;) {
    const HuffmanCode code = codes[static_cast<size_t>(static_cast<uint8_t>(bytes[i]) - kBase)];
    for (int b = 0; b < code.length; ++b) bits.push_back(code.bits >> b & 1);
  }
  bits.push_back(true);
  std::vector<char> stream((bits.size() + 7) / 8, 0);
  for (size_t b = 0; b < bits.size(); ++b)
    if (bits[b]) stream[b / 8] |= static_cast<char>(1 << b % 8);
  return stream;
}

TEST(HuffmanCodes, StreamsAreTheCodesFromTheLastToTheFirst) {
  std::array<HuffmanCode, kHuffmanSymbols> even{}, uneven{};
  for (size_t s = 0; s < kHuffmanSymbols; ++s) {
    even[s] = {static_cast<uint16_t>(37 * s % 2048), 11};  // eight of them are too many bits for one
    const uint8_t length = static_cast<uint8_t>(1 + s % 11);
    uneven[s] = {static_cast<uint16_t>((1 << length) - 1 - static_cast<int>(s % 2)), length};
  }
  for (const CpuIsa isa : variants())
    for (const auto& codes : {even, uneven})
      for (const size_t n : {0, 1, 5, 31, 32, 33, 64, 95, 640, 1001}) {
        const std::vector<char> bytes = near_bytes(n, 55), expected = expected_stream(bytes, codes);
        std::vector<char> out(n * 2 + 16);
        out.resize(put_huffman_codes(isa, bytes, kBase, codes, out.data()));
        EXPECT_EQ(out, expected) << name_of(isa) << " " << n;
      }
}

TEST(HuffmanCodes, ABaseIsAddedModulo256) {
  for (const CpuIsa isa : variants()) {
    std::vector<char> bytes = near_bytes(100, 55);
    const std::vector<char> before = bytes;
    add_to_bytes(isa, bytes, 99);
    for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], static_cast<char>(before[i] + 99)) << i;
  }
}

}  // namespace
}  // namespace deepflow
