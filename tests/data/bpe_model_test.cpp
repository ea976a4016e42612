#include "data/bpe_model.h"

#include "data/bpe_word_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace deepflow {
namespace {

TEST(ByteAlphabet, IsABijectionOntoPrintableCharacters) {
  std::string back;
  EXPECT_EQ(bytes_to_alphabet(" the\n"), "\u0120the\u010a");
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  EXPECT_TRUE(alphabet_to_bytes(bytes_to_alphabet(all), back));
  EXPECT_EQ(back, all);
  EXPECT_FALSE(alphabet_to_bytes("\u2581", back));
  EXPECT_FALSE(alphabet_to_bytes(" ", back));
}

// A random vocabulary over the letters a, b, c.
BpeSpec random_spec(std::mt19937& draw) {
  BpeSpec spec;
  std::vector<std::string> tokens = {"a", "b", "c"};
  for (int i = 0; i < 60; ++i) {
    const std::string left = tokens[draw() % tokens.size()], right = tokens[draw() % tokens.size()];
    spec.merges.emplace_back(left, right);
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) tokens.push_back(left + right);
  }
  std::shuffle(spec.merges.begin(), spec.merges.end(), draw);
  for (size_t i = 0; i < tokens.size(); ++i) spec.vocabulary.emplace_back(tokens[i], static_cast<TokenId>(i));
  return spec;
}

// The definition: merge the leftmost pair of the lowest rank until there is none. A pair listed twice has its last
// rank.
std::vector<TokenId> by_definition(const BpeSpec& spec, const BpeModel& model, const std::string& word) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < spec.merges.size(); ++i) ranks[spec.merges[i]] = i;
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  for (;;) {
    size_t best = SIZE_MAX, where = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto it = ranks.find({parts[i], parts[i + 1]});
      if (it != ranks.end() && it->second < best) best = it->second, where = i;
    }
    if (best == SIZE_MAX) break;
    parts[where] += parts[where + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& p : parts) ids.push_back(model.find(p));
  return ids;
}

TEST(BpeModel, ShortAndLongWordsMergeByTheDefinition) {
  std::mt19937 draw(23);
  for (int round = 0; round < 30; ++round) {
    const BpeSpec spec = random_spec(draw);
    const BpeModel model(spec, true, "test");
    BpeModel::Scratch scratch;
    for (const size_t length : {1, 2, 3, 7, 20, 47, 48, 49, 60, 300}) {
      std::string word;
      for (size_t i = 0; i < length; ++i) word += static_cast<char>('a' + draw() % 3);
      std::vector<TokenId> ids;
      model.encode(word, scratch, ids);
      ASSERT_EQ(ids, by_definition(spec, model, word)) << word;
    }
  }
}

TEST(BpeModel, AMegabyteInOneWordIsMergedInReasonableTime) {
  std::mt19937 draw(29);
  const BpeModel model(random_spec(draw), true, "test");
  std::string word;
  for (int i = 0; i < 1 << 20; ++i) word += static_cast<char>('a' + draw() % 3);
  BpeModel::Scratch scratch;
  std::vector<TokenId> ids;
  model.encode(word, scratch, ids);
  size_t length = 0;
  for (const TokenId id : ids) length += model.token(id)->size();
  EXPECT_EQ(length, word.size());
}

TEST(BpeWordCache, GivesBackWhatWasPut) {
  BpeWordCache cache;
  std::mt19937 draw(31);
  std::map<std::string, std::vector<TokenId>> truth;
  for (int i = 0; i < 200000; ++i) {
    // Words end at the end of the readable memory as often as not.
    const std::string text(1 + draw() % 20, static_cast<char>('a' + draw() % 8));
    const std::string padded = text + std::string(draw() % 2 ? 0 : 20, static_cast<char>(draw()));
    const std::string_view word(padded.data(), text.size());
    std::vector<TokenId>& expected = truth[text];
    if (expected.empty())
      for (uint32_t n = 1 + draw() % 6; n > 0; --n) expected.push_back(static_cast<TokenId>(draw() % 1000));
    std::vector<TokenId> out = {42};
    if (cache.get(word, padded.data() + padded.size(), out)) {
      ASSERT_EQ(std::vector<TokenId>(out.begin() + 1, out.end()), expected) << text;
    } else {
      ASSERT_EQ(out, std::vector<TokenId>{42});
      cache.put(word, expected.data(), expected.size());
    }
  }
}

}  // namespace
}  // namespace deepflow
