#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// What the tokenizers ask of Unicode: character classes, validity of UTF-8 and normal form C.
// Classes are those of Unicode 16: utf8proc's tables, plus the letters and numbers that newer versions assigned,
// because the Hugging Face tokenizers library sees them as letters and numbers too.
namespace deepflow::unicode {

enum CharClass : uint8_t {
  kOther = 0,
  kLetter = 1,   // \p{L}
  kNumber = 2,   // \p{N}
  kSpace = 4,    // \s: White_Space
  kNewline = 8,  // CR or LF; always together with kSpace
  kWord = 16,    // \w: letters, marks, decimal digits, letter numbers, connectors, joiners
};

struct Range {
  uint32_t first, last;
};

// Code points that Unicode 15 to 16 made letters and numbers, ascending.
const std::vector<Range>& newer_letters();
const std::vector<Range>& newer_numbers();
// The White_Space code points, ascending.
const std::vector<Range>& white_space();

class ClassTable {
 public:
  ClassTable();
  uint8_t of(uint32_t code_point) const { return leaves_[size_t{root_[code_point >> 8]} * 256 + (code_point & 255)]; }
  uint8_t of_ascii(uint8_t byte) const { return ascii_[byte]; }

 private:
  std::array<uint8_t, 256> ascii_{};
  std::array<uint16_t, 0x1100> root_{};
  std::vector<uint8_t> leaves_;
};

const ClassTable& class_table();  // built at the first call (a few milliseconds), then constant

// The code point at `p` of text known to be valid UTF-8; `length` gets its number of bytes.
inline uint32_t decode_valid(const char* at, int& length) {
  const auto* p = reinterpret_cast<const uint8_t*>(at);
  if (p[0] < 0x80) return length = 1, p[0];
  if (p[0] < 0xe0) return length = 2, (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
  if (p[0] < 0xf0) return length = 3, (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
  return length = 4, (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

// Bytes of the well-formed character at `p` (1 to 4), or 0: overlong forms, surrogates and stray bytes are not
// well-formed.
int character_length(const char* p, const char* end);
// Length of the longest prefix that is valid UTF-8.
size_t valid_prefix(std::string_view text);
// Length of the prefix in which no well-formed character starts; 0 when the text starts with one.
size_t invalid_prefix(std::string_view text);

void append_utf8(uint32_t code_point, std::string& out);

// Normal form C of valid UTF-8, as Hugging Face tokenizers makes it: combining marks newer than Unicode 9 stay where
// they are. Returns `text` itself when it is in that form already (almost always), else a view of `buffer`.
std::string_view to_nfc(std::string_view text, std::string& buffer);

}  // namespace deepflow::unicode
