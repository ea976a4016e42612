#include "core/error.h"
#include "data/pretokenizer.h"
#include "data/unicode.h"

#include <gtest/gtest.h>

#include <random>

namespace deepflow {
namespace {

std::vector<std::string> words(const PreTokenizer& pre_tokenizer, std::string_view text) {
  std::vector<std::string> out;
  const auto scratch = pre_tokenizer.make_scratch();
  pre_tokenizer.for_each_word(text, true, *scratch, [&](const char* b, const char* e) { out.emplace_back(b, e); });
  return out;
}

PreTokenizer one_split(std::string_view pattern, bool scanners) {
  return PreTokenizer({SplitStep{std::string(pattern), SplitBehavior::kIsolated, false}}, "test", scanners);
}

// Characters where the patterns have their corners, and characters from everywhere.
std::string random_text(std::mt19937& draw) {
  static const char* corners[] = {" ",  " ",      "  ",  "\n",     "\r\n",   "\r",     "\t",     "'",
                                  "'s", "'S",     "'re", "'LL",    "'vE",    "'t",     "'m",     "'D",
                                  "a",  "Zz",     "1",   "23",     "\u00a0", "\u3000", "\u0085", "!",
                                  ".",  "\u017f", "_",   "\u0301", "\u2028", "\u180e", "\u200d"};
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(draw() % n); };
  std::string text;
  const uint32_t base = pick(0x110) << 12;
  for (uint32_t i = pick(60); i > 0; --i) {
    const uint32_t kind = pick(10);
    uint32_t c = kind < 7 ? 0 : kind == 7 ? base + pick(0x1000) : kind == 8 ? pick(0x3000) : pick(0x110000);
    if (c >= 0xd800 && c < 0xe000) c -= 0x1000;
    if (kind < 7) {
      text += corners[pick(std::size(corners))];
    } else {
      unicode::append_utf8(c, text);
    }
  }
  return text;
}

class KnownPattern : public testing::TestWithParam<std::string_view> {};

TEST_P(KnownPattern, ScannerCutsRandomUnicodeAsPcre2Does) {
  const PreTokenizer scanner = one_split(GetParam(), true), pcre2 = one_split(GetParam(), false);
  std::mt19937 draw(11);
  for (int i = 0; i < 30000; ++i) {
    const std::string text = random_text(draw);
    ASSERT_EQ(words(scanner, text), words(pcre2, text)) << i << ": " << text;
  }
}

TEST_P(KnownPattern, ScannerCutsEveryCodePointAsPcre2Does) {
  const PreTokenizer scanner = one_split(GetParam(), true), pcre2 = one_split(GetParam(), false);
  for (uint32_t page = 0; page < 0x110000; page += 256) {
    if (page >= 0xd800 && page < 0xe000) continue;
    std::string text;
    for (uint32_t c = page; c < page + 256; ++c) {
      std::string one;
      unicode::append_utf8(c, one);
      text += "a" + one + " " + one + "1'" + one + "\n";
    }
    ASSERT_EQ(words(scanner, text), words(pcre2, text)) << std::hex << page;
  }
}

TEST_P(KnownPattern, LongRunsAreCutAsPcre2Does) {
  const PreTokenizer scanner = one_split(GetParam(), true), pcre2 = one_split(GetParam(), false);
  for (const char c : {' ', '\n', 'a', '!', '1', '\t'}) {
    for (const char* end : {"", "x", " ", "\n", "\r\nx"}) {
      const std::string text = std::string(100000, c) + end;
      ASSERT_EQ(words(scanner, text), words(pcre2, text)) << c << end;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, KnownPattern, testing::Values(kGpt2Pattern, kLlama3Pattern, kQwenPattern));

TEST(PreTokenizer, KnownPatternsCutTheExamplesOfTheirModels) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words(one_split(kGpt2Pattern, true), "I'm 12  o'clock\n\n x"),
            (Words{"I", "'m", " 12", " ", " o", "'", "clock", "\n\n", " x"}));
  EXPECT_EQ(words(one_split(kLlama3Pattern, true), "I'M 12345 (ok)\n\n x"),
            (Words{"I", "'M", " ", "123", "45", " (", "ok", ")\n\n", " x"}));
  EXPECT_EQ(words(one_split(kQwenPattern, true), "\tif 123:"), (Words{"\tif", " ", "1", "2", "3", ":"}));
}

TEST(SplitRegex, WhatTheTwoDialectsReadDifferentlyIsSpelledOut) {
  EXPECT_EQ(words(one_split(R"(\s+)", false), "a\u180eb\u0085c"),
            (std::vector<std::string>{"a\u180eb", "\u0085", "c"}));
  EXPECT_EQ(words(one_split(R"([^\S\n]+)", false), "a \u3000\nb"), (std::vector<std::string>{"a", " \u3000", "\nb"}));
  EXPECT_EQ(words(one_split(R"(\w+)", false), "e\u0301\u203f!"), (std::vector<std::string>{"e\u0301\u203f", "!"}));
  EXPECT_EQ(words(one_split(R"(\v)", false), "a\vb\nc"), (std::vector<std::string>{"a", "\v", "b\nc"}));
  EXPECT_EQ(words(one_split(R"(^b)", false), "ab\nbc"), (std::vector<std::string>{"ab\n", "b", "c"}));
}

TEST(SplitRegex, WhatHasNoCommonMeaningIsRefused) {
  for (const char* pattern :
       {R"(\h)",           R"(\R)",   R"(\X)",         R"(\C)",      R"((?m).)",       R"([a[b]])", R"([a&&b])",
        R"((a)\1)",        R"(\xff)", R"(a{,3})",      R"(a{1,3}+)", R"((?<n>a))",     R"((*UTF))", R"(\)",
        R"([a)",           R"(\p{L)", R"(\pL)",        R"(\u12)",    R"([[:alpha:]])", R"((a)",     R"(*a)",
        R"(\p{Nonsense})", R"([]a])", R"(\x{110000})", R"(\ud800)"}) {
    EXPECT_THROW(SplitRegex(pattern, "here"), DataError) << pattern;
  }
  EXPECT_THROW(SplitRegex(std::string(1 << 20, 'a'), "here"), DataError);
  EXPECT_THROW(SplitRegex(std::string(5000, '(') + std::string(5000, ')'), "here"), DataError);
}

}  // namespace
}  // namespace deepflow
