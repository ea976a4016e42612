#include "data/unicode.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>

namespace deepflow::unicode {
namespace {

std::string utf8(std::initializer_list<uint32_t> code_points) {
  std::string text;
  for (const uint32_t c : code_points) append_utf8(c, text);
  return text;
}

bool surrogate(uint32_t c) { return c >= 0xd800 && c < 0xe000; }

TEST(Utf8, ValidPrefixEndsBeforeWhatIsNotWellFormed) {
  EXPECT_EQ(valid_prefix("plain ascii of more than eight bytes"), 36u);
  EXPECT_EQ(valid_prefix("caf\u00e9 \u4f60 \U0001f468"), 14u);
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe4\xbd", "\xf0\x9f\x91"}) {
    EXPECT_EQ(valid_prefix(std::string("0123456789") + bad), 10u) << bad;
    EXPECT_EQ(invalid_prefix(bad), strlen(bad)) << bad;
    EXPECT_EQ(invalid_prefix(std::string(bad) + "x\xff"), strlen(bad)) << bad;
  }
  EXPECT_EQ(invalid_prefix("x\xff"), 0u);
}

TEST(Utf8, EveryCodePointIsDecodedAndValid) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (surrogate(c)) continue;
    const std::string text = utf8({c});
    int length = 0;
    ASSERT_EQ(decode_valid(text.data(), length), c);
    ASSERT_EQ(static_cast<size_t>(length), text.size());
    ASSERT_EQ(valid_prefix(text), text.size());
  }
}

TEST(ClassTable, KnowsLettersNumbersAndSpaces) {
  const ClassTable& t = class_table();
  EXPECT_EQ(t.of('a'), kLetter | kWord);
  EXPECT_EQ(t.of(0x4e00), kLetter | kWord);
  EXPECT_EQ(t.of('7'), kNumber | kWord);
  EXPECT_EQ(t.of(0xbd), kNumber);
  EXPECT_EQ(t.of(' '), kSpace);
  EXPECT_EQ(t.of('\r'), kSpace | kNewline);
  EXPECT_EQ(t.of(0x2028), kSpace);
  EXPECT_EQ(t.of(0x180e), kOther);
  EXPECT_EQ(t.of(0x301), kWord);
  EXPECT_EQ(t.of('_'), kWord);
  EXPECT_EQ(t.of('\''), kOther);
  EXPECT_EQ(t.of(0x1c89), kLetter | kWord) << "a letter since Unicode 16";
}

std::string nfc_by_library(const std::string& text) {
  utf8proc_uint8_t* out = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                              static_cast<utf8proc_ssize_t>(text.size()), &out, options);
  std::string result(reinterpret_cast<const char*>(out), static_cast<size_t>(n));
  free(out);
  return result;
}

// The quick check must never take text for composed that is not.
TEST(Nfc, EveryCodePointAloneAndAfterALetterIsAsTheLibrarySays) {
  std::string buffer;
  int left_alone = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (surrogate(c) || c == 0x11a7) continue;  // utf8proc 2.8 swallows U+11A7 after a syllable
    for (const std::string& text :
         {utf8({c}), utf8({'o', c}), utf8({0x1100, c}), utf8({0xac00, c}), utf8({'a', 0x345, c})}) {
      if (to_nfc(text, buffer) == nfc_by_library(text)) continue;
      ASSERT_GT(utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class + (c == 0x11938), 0)
          << std::hex << c;
      ++left_alone;
      break;
    }
  }
  EXPECT_GT(left_alone, 50);
  EXPECT_LT(left_alone, 200);
}

TEST(Nfc, ComposesReordersAndKeepsMarksThatTheReferenceDoesNotKnow) {
  std::string buffer;
  EXPECT_EQ(to_nfc("cafe\u0301", buffer), "caf\u00e9");
  EXPECT_EQ(to_nfc("a\u0301\u0323", buffer), "\u1ea1\u0301");
  EXPECT_EQ(to_nfc("\u212b\u1fd3", buffer), "\u00c5\u0390");
  EXPECT_EQ(to_nfc("\u1112\u1161\u11ab", buffer), "\ud55c");
  EXPECT_EQ(to_nfc("e\u0eba\u0301e\u0301", buffer), "e\u0eba\u0301\u00e9");
  EXPECT_EQ(to_nfc(std::string_view("e\u0301\0e\u0301", 7), buffer), std::string_view("\u00e9\0\u00e9", 5));
  EXPECT_EQ(to_nfc("\uac00\u11a7e\u0301", buffer), "\uac00\u11a7\u00e9");
  const std::string plain = "plain \u4f60\u597d";
  EXPECT_EQ(to_nfc(plain, buffer).data(), plain.data()) << "no copy of text that is composed already";
}

}  // namespace
}  // namespace deepflow::unicode
