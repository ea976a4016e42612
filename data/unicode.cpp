#include "data/unicode.h"

#include "core/error.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>
#include <map>

namespace deepflow::unicode {

const std::vector<Range>& newer_letters() {
  static const std::vector<Range> ranges = {
      {0x1c89, 0x1c8a},   {0xa7cb, 0xa7cd},   {0xa7da, 0xa7dc},   {0x105c0, 0x105f3}, {0x10d4a, 0x10d65},
      {0x10d6f, 0x10d85}, {0x10ec2, 0x10ec4}, {0x1123f, 0x11240}, {0x11380, 0x11389}, {0x1138b, 0x1138b},
      {0x1138e, 0x1138e}, {0x11390, 0x113b5}, {0x113b7, 0x113b7}, {0x113d1, 0x113d1}, {0x113d3, 0x113d3},
      {0x11bc0, 0x11be0}, {0x11f02, 0x11f02}, {0x11f04, 0x11f10}, {0x11f12, 0x11f33}, {0x1342f, 0x1342f},
      {0x13441, 0x13446}, {0x13460, 0x143fa}, {0x16100, 0x1611d}, {0x16d40, 0x16d6c}, {0x18cff, 0x18cff},
      {0x1b132, 0x1b132}, {0x1b155, 0x1b155}, {0x1df25, 0x1df2a}, {0x1e030, 0x1e06d}, {0x1e4d0, 0x1e4eb},
      {0x1e5d0, 0x1e5ed}, {0x1e5f0, 0x1e5f0}, {0x2b739, 0x2b739}, {0x2ebf0, 0x2ee5d}, {0x31350, 0x323af}};
  return ranges;
}

const std::vector<Range>& newer_numbers() {
  static const std::vector<Range> ranges = {
      {0x10d40, 0x10d49}, {0x116d0, 0x116e3}, {0x11bf0, 0x11bf9}, {0x11f50, 0x11f59}, {0x16130, 0x16139},
      {0x16d70, 0x16d79}, {0x1ccf0, 0x1ccf9}, {0x1d2c0, 0x1d2d3}, {0x1e4f0, 0x1e4f9}, {0x1e5f1, 0x1e5fa}};
  return ranges;
}

const std::vector<Range>& white_space() {
  static const std::vector<Range> ranges = {{0x09, 0x0d},     {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},
                                            {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                            {0x205f, 0x205f}, {0x3000, 0x3000}};
  return ranges;
}

namespace {

uint8_t class_by_category(uint32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter | kWord;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return kNumber | kWord;
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC:
      return kWord;
    default:
      return kOther;
  }
}

std::vector<uint8_t> flat_classes() {
  std::vector<uint8_t> flat(0x110000);
  for (uint32_t c = 0; c < flat.size(); ++c) flat[c] = class_by_category(c);
  auto set = [&](const std::vector<Range>& ranges, uint8_t value) {
    for (const Range& r : ranges) memset(&flat[r.first], value, r.last - r.first + 1);
  };
  set(newer_letters(), kLetter | kWord);
  set(newer_numbers(), kNumber | kWord);
  set(white_space(), kSpace);
  // Symbols that are Alphabetic, and the joiners: \w without being letters.
  const std::vector<Range> words = {
      {0x24b6, 0x24e9}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}, {0x200c, 0x200d}};
  for (const Range& r : words)
    for (uint32_t c = r.first; c <= r.last; ++c) flat[c] |= kWord;
  flat['\r'] = flat['\n'] = kSpace | kNewline;
  return flat;
}

}  // namespace

ClassTable::ClassTable() {
  const std::vector<uint8_t> flat = flat_classes();
  std::map<std::string_view, uint16_t> seen;
  for (size_t page = 0; page < root_.size(); ++page) {
    const std::string_view content(reinterpret_cast<const char*>(&flat[page * 256]), 256);
    const auto [it, fresh] = seen.emplace(content, static_cast<uint16_t>(seen.size()));
    if (fresh) leaves_.insert(leaves_.end(), content.begin(), content.end());
    root_[page] = it->second;
  }
  memcpy(ascii_.data(), flat.data(), 128);
}

const ClassTable& class_table() {
  static const ClassTable table;
  return table;
}

int character_length(const char* at, const char* end) {
  const auto* p = reinterpret_cast<const uint8_t*>(at);
  const auto available = end - at;
  auto continues = [&](int i) { return i < available && (p[i] & 0xc0) == 0x80; };
  if (available <= 0) return 0;
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xc2) return 0;
  if (p[0] < 0xe0) return continues(1) ? 2 : 0;
  if (p[0] < 0xf0) {
    if (!continues(1) || !continues(2)) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0;  // overlong
    if (p[0] == 0xed && p[1] > 0x9f) return 0;  // surrogate
    return 3;
  }
  if (p[0] > 0xf4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if (p[0] == 0xf0 && p[1] < 0x90) return 0;  // overlong
  if (p[0] == 0xf4 && p[1] > 0x8f) return 0;  // above U+10FFFF
  return 4;
}

size_t valid_prefix(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end) {
    uint64_t block = 0;
    while (end - p >= 8 && (memcpy(&block, p, 8), (block & 0x8080808080808080u) == 0)) p += 8;
    if (p == end) break;
    const int n = character_length(p, end);
    if (n == 0) break;
    p += n;
  }
  return static_cast<size_t>(p - text.data());
}

size_t invalid_prefix(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end && character_length(p, end) == 0) ++p;
  return static_cast<size_t>(p - text.data());
}

void append_utf8(uint32_t code_point, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

namespace {

// Marks that Unicode 10 to 14 added. The normalizer of Hugging Face tokenizers has the tables of Unicode 9: it leaves
// these in place, so a model has been trained on them in place.
const std::vector<Range>& marks_left_alone() {
  static const std::vector<Range> ranges = {
      {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
      {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
      {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
      {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938},
      {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
      {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x16ff0, 0x16ff1},
      {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}};
  return ranges;
}

constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

struct NfcTables {
  std::vector<bool>
      active;  // may take part in a change: no starter, not its own normal form, or composes with what is before it
  std::vector<bool> alone;  // left where it is
  NfcTables() : active(0x110000), alone(0x110000) {
    for (utf8proc_int32_t c = 0x300; c < 0x110000; ++c) look_at(c);
    alone[0x11a7] = true;  // utf8proc 2.8 takes it for a final consonant and swallows it
    for (const Range& r : marks_left_alone())
      for (uint32_t c = r.first; c <= r.last; ++c) alone[c] = true, active[c] = false;
  }

 private:
  void look_at(utf8proc_int32_t c) {
    if (utf8proc_get_property(c)->combining_class != 0) active[static_cast<size_t>(c)] = true;
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
    const auto n = utf8proc_decompose_char(c, parts, 32, decompose, &boundary);
    if (n < 1 || (n == 1 && parts[0] == c)) return;
    for (utf8proc_ssize_t i = 1; i < n; ++i) active[static_cast<size_t>(parts[i])] = true;
    const auto composed = utf8proc_normalize_utf32(parts, n, kCompose);
    if (composed != 1 || parts[0] != c) active[static_cast<size_t>(c)] = true;
  }
};

const NfcTables& nfc_tables() {
  static const NfcTables tables;
  return tables;
}

bool is_nfc(std::string_view text) {
  const NfcTables& tables = nfc_tables();
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end) {
    if (static_cast<uint8_t>(*p) < 0xcc) {  // below U+0300 nothing changes
      p += static_cast<uint8_t>(*p) < 0x80 ? 1 : 2;
      continue;
    }
    int n = 0;
    if (tables.active[decode_valid(p, n)]) return false;
    p += n;
  }
  return true;
}

// Length of the text before the first character that is left alone; `length` gets that character's bytes, 0 at the end.
size_t before_left_alone(std::string_view text, size_t& length) {
  const NfcTables& tables = nfc_tables();
  int n = 0;
  for (size_t at = 0; at < text.size(); at += static_cast<size_t>(n))
    if (tables.alone[decode_valid(text.data() + at, n)]) return length = static_cast<size_t>(n), at;
  return length = 0, text.size();
}

void append_composed(std::string_view text, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* composed = nullptr;
  const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                              static_cast<utf8proc_ssize_t>(text.size()), &composed, kCompose);
  if (n < 0) throw DataError("normalising text to NFC: {}", utf8proc_errmsg(n));
  out.append(reinterpret_cast<const char*>(composed), static_cast<size_t>(n));
  free(composed);
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& buffer) {
  if (is_nfc(text)) return text;
  buffer.clear();
  while (!text.empty()) {
    size_t alone = 0;
    const size_t n = before_left_alone(text, alone);
    append_composed(text.substr(0, n), buffer);
    buffer.append(text.substr(n, alone));
    text.remove_prefix(n + alone);
  }
  return buffer;
}

}  // namespace deepflow::unicode
