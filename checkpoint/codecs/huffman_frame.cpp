#include "checkpoint/codecs/huffman_frame.h"

#include "core/error.h"
#include "kernels/ops/huffman_codes.h"

#include <algorithm>
#include <array>
#include <vector>

namespace deepflow {
namespace {

constexpr size_t kLeast = 1024, kMost = 128 << 10;  // the largest block of zstd
constexpr int kLongest = 11;                        // bits of a code for literals
using Codes = std::array<HuffmanCode, kHuffmanSymbols>;

// Package-merge (Larmore and Hirschberg 1990): the best lengths up to kLongest. On every level the items are the
// symbols, by count, and packages of two neighbours of the level below; a symbol's length is the number of levels on
// which it is among the items taken.
std::vector<uint8_t> code_lengths(const std::vector<uint32_t>& counts) {
  const size_t n = counts.size();
  std::vector<uint64_t> below, items;
  std::array<std::vector<uint8_t>, kLongest> is_package;
  for (std::vector<uint8_t>& packages : is_package) {
    items.clear();
    for (size_t symbol = 0, pair = 0; symbol < n || pair + 1 < below.size();) {
      const bool package = symbol == n || (pair + 1 < below.size() && below[pair] + below[pair + 1] < counts[symbol]);
      items.push_back(package ? below[pair] + below[pair + 1] : counts[symbol]);
      packages.push_back(package);
      if (package)
        pair += 2;
      else
        ++symbol;
    }
    below.swap(items);
  }
  std::vector<uint8_t> lengths(n, 0);
  size_t taken = 2 * n - 2;
  for (size_t level = kLongest; level-- > 0;) {
    size_t packages = 0;
    for (size_t i = 0; i < taken; ++i) packages += is_package[level][i];
    for (size_t symbol = 0; symbol < taken - packages; ++symbol) ++lengths[symbol];
    taken = 2 * packages;
  }
  return lengths;
}

// Codes rise from the longest to the shortest, and with the symbol among those of a length.
void assign_codes(Codes& codes) {
  unsigned next = 0;
  for (int length = kLongest; length > 0; --length) {
    for (HuffmanCode& code : codes)
      if (code.length == length) code.bits = static_cast<uint16_t>(next++);
    next >>= 1;
  }
}

Codes codes_for(const std::array<uint32_t, kHuffmanSymbols>& counts) {
  std::vector<std::pair<uint32_t, uint8_t>> symbols;
  for (size_t s = 0; s < counts.size(); ++s)
    if (counts[s] != 0) symbols.emplace_back(counts[s], static_cast<uint8_t>(s));
  std::sort(symbols.begin(), symbols.end());
  std::vector<uint32_t> rising;
  for (const auto& symbol : symbols) rising.push_back(symbol.first);
  const std::vector<uint8_t> lengths = code_lengths(rising);
  Codes codes{};
  for (size_t i = 0; i < symbols.size(); ++i) codes[symbols[i].second].length = lengths[i];
  assign_codes(codes);
  return codes;
}

char* put_number(char* out, uint64_t x, int num_bytes) {
  for (int b = 0; b < num_bytes; ++b) *out++ = static_cast<char>(x >> (8 * b));
  return out;
}

// Weights of all symbols but the last, 4 bits each; that of the last follows from them.
char* put_description(char* out, const Codes& codes, size_t last) {
  int longest = 0;
  for (const HuffmanCode& code : codes) longest = std::max<int>(longest, code.length);
  const auto weight = [&](size_t s) { return s < last && codes[s].length ? longest + 1 - codes[s].length : 0; };
  *out++ = static_cast<char>(127 + last);
  for (size_t s = 0; s < last; s += 2) *out++ = static_cast<char>(weight(s) << 4 | weight(s + 1));
  return out;
}

// Four streams behind a table of the lengths of the first three.
char* put_streams(CpuIsa isa, char* out, std::span<const char> bytes, uint8_t base, const Codes& codes) {
  const size_t quarter = (bytes.size() + 3) / 4;
  char* table = out;
  out += 6;
  for (size_t i = 0; i < 4; ++i) {
    const std::span<const char> part = bytes.subspan(i * quarter, std::min(quarter, bytes.size() - i * quarter));
    const size_t length = put_huffman_codes(isa, part, base, codes, out);
    if (i < 3) table = put_number(table, length, 2);
    out += length;
  }
  return out;
}

}  // namespace

std::optional<HuffmanFrame> write_huffman_frame(CpuIsa isa, std::span<const char> bytes, std::span<char> out) {
  if (bytes.size() < kLeast || bytes.size() > kMost) return std::nullopt;
  DF_ASSERT(out.size() >= bytes.size() + bytes.size() / 2 + 256, "{} for {} bytes", out.size(), bytes.size());
  const auto [base, most] = byte_range(isa, bytes);
  const size_t last = static_cast<size_t>(most - base);
  if (last == 0 || last >= kHuffmanSymbols) return std::nullopt;
  const Codes codes = codes_for(count_near_bytes(isa, bytes, base));

  constexpr size_t kFrameHeader = 6, kBlockHeader = 3, kLiteralsHeader = 5;
  char* block = out.data() + kFrameHeader + kBlockHeader;
  char* content = block + kLiteralsHeader;
  char* at = put_streams(isa, put_description(content, codes, last), bytes, base, codes);
  const uint64_t literals = static_cast<uint64_t>(at - content);
  *at++ = 0;  // no sequences
  const uint64_t block_bytes = static_cast<uint64_t>(at - block);
  if (block_bytes >= bytes.size()) return std::nullopt;
  put_number(out.data(), 0xfd2fb528, 4);
  put_number(out.data() + 4, 0x3800, 2);  // a window of 128 KiB, no content size, no checksum
  put_number(out.data() + kFrameHeader, 1 | 2 << 1 | block_bytes << 3, kBlockHeader);  // the last block, compressed
  put_number(block, 2 | 3 << 2 | uint64_t{bytes.size()} << 4 | literals << 22, kLiteralsHeader);
  return HuffmanFrame{base, static_cast<size_t>(at - out.data())};
}

}  // namespace deepflow
