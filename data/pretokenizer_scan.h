#pragma once

#include "data/unicode.h"

#include <string_view>

// Hand-written equivalents of the three pre-tokenizer patterns that most models use. Each takes valid UTF-8 and calls
// word(const char* begin, const char* end) for every match; the matches cover the text. They give what the regular
// expression gives under leftmost, first-alternative matching (tests/data/tokenizer_pretokenizer_test.cpp compares).
namespace deepflow {

// The patterns as they are written in tokenizer.json.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class TextScanner {
 public:
  explicit TextScanner(std::string_view text) : p_(text.data()), end_(text.data() + text.size()) {}

  template <class Word>
  void gpt2(Word&& word) {
    while (p_ < end_) {
      const char* start = p_;
      if (*p_ == '\'' && contraction<false>()) {
        word(start, p_);
        continue;
      }
      Char c = at(p_);
      if (*p_ == ' ' && p_ + 1 < end_) {
        const Char next = at(p_ + 1);
        if (!(next.kind & unicode::kSpace)) ++p_, c = next;
      }
      p_ += c.length;
      if (c.kind & unicode::kLetter) {
        skip_while(unicode::kLetter);
      } else if (c.kind & unicode::kNumber) {
        skip_while(unicode::kNumber);
      } else if (c.kind & unicode::kSpace) {
        p_ = start;
        white_space();
      } else {
        skip_others();
      }
      word(start, p_);
    }
  }

  // Llama-3 takes up to three digits together (kDigits = 3), Qwen each alone (1).
  template <int kDigits, class Word>
  void llama3(Word&& word) {
    while (p_ < end_) {
      const char* start = p_;
      if (*p_ != '\'' || !contraction<true>()) next_llama3<kDigits>();
      word(start, p_);
    }
  }

 private:
  struct Char {
    uint8_t kind;
    int length;
  };

  Char at(const char* p) const {
    if (static_cast<uint8_t>(*p) < 0x80) return {table_.of_ascii(static_cast<uint8_t>(*p)), 1};
    int length = 0;
    const uint32_t code_point = unicode::decode_valid(p, length);
    return {table_.of(code_point), length};
  }

  void skip_while(uint8_t kinds) {
    while (p_ < end_) {
      const Char c = at(p_);
      if (!(c.kind & kinds)) return;
      p_ += c.length;
    }
  }

  void skip_others() {
    while (p_ < end_) {
      const Char c = at(p_);
      if (c.kind & kNotOther) return;
      p_ += c.length;
    }
  }

  // \s+(?!\S)|\s+ : the run but for its last character, which belongs to what follows; all of it at the end of the
  // text.
  void white_space() {
    const char* start = p_;
    const char* last = p_;
    while (p_ < end_) {
      const Char c = at(p_);
      if (!(c.kind & unicode::kSpace)) break;
      last = p_;
      p_ += c.length;
    }
    if (p_ < end_ && last > start) p_ = last;
  }

  // 's 't 're 've 'm 'll 'd after an apostrophe at p_. Under (?i) the long s (U+017F) is an s as well.
  template <bool kAnyCase>
  bool contraction() {
    auto letter = [&](int i) {
      if (p_ + i >= end_) return '\0';
      const char c = p_[i];
      return kAnyCase && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
    };
    const char a = letter(1);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p_ += 2, true;
    const char b = letter(2);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p_ += 3, true;
    if (kAnyCase && a == '\xc5' && b == '\xbf') return p_ += 3, true;
    return false;
  }

  template <int kDigits>
  void next_llama3() {
    const Char c = at(p_);
    if (c.kind & unicode::kLetter) {
      p_ += c.length;
      return skip_while(unicode::kLetter);
    }
    if (c.kind & unicode::kNumber) {
      p_ += c.length;
      for (int i = 1; i < kDigits && p_ < end_; ++i) {
        const Char d = at(p_);
        if (!(d.kind & unicode::kNumber)) return;
        p_ += d.length;
      }
      return;
    }
    const bool more = p_ + c.length < end_;
    const Char next = more ? at(p_ + c.length) : Char{unicode::kSpace, 0};
    if ((next.kind & unicode::kLetter) && !(c.kind & unicode::kNewline)) {
      p_ += c.length + next.length;
      return skip_while(unicode::kLetter);
    }
    const bool spaced = *p_ == ' ' && !(next.kind & kNotOther);
    if (spaced || !(c.kind & kNotOther)) {
      p_ += c.length;
      skip_others();
      while (p_ < end_ && (*p_ == '\r' || *p_ == '\n')) ++p_;
      return;
    }
    const char* start = p_;
    if (!through_last_newline()) {
      p_ = start;
      white_space();
    }
  }

  // \s*[\r\n]+ : through the last line end of the run of white space.
  bool through_last_newline() {
    const char* after = nullptr;
    while (p_ < end_) {
      const Char c = at(p_);
      if (!(c.kind & unicode::kSpace)) break;
      p_ += c.length;
      if (c.kind & unicode::kNewline) after = p_;
    }
    if (after) p_ = after;
    return after != nullptr;
  }

  static constexpr uint8_t kNotOther = unicode::kSpace | unicode::kLetter | unicode::kNumber;

  const char* p_;
  const char* end_;
  const unicode::ClassTable& table_ = unicode::class_table();
};

}  // namespace deepflow
