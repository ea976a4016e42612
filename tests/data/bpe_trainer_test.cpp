#include "data/bpe_trainer.h"

#include "core/error.h"
#include "data/bpe_model.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <random>

namespace deepflow {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs merges_of(const Tokenizer& tokenizer) {
  Pairs all;
  const nlohmann::json root = nlohmann::json::parse(tokenizer.json());
  for (const auto& m : root["model"]["merges"]) all.emplace_back(m[0], m[1]);
  return all;
}

// Sennrich et al., algorithm 1, word by word: what the incremental learner must equal.
Pairs naive_merges(const std::vector<std::string>& words, size_t count, const std::map<std::string, int>& first_ids) {
  std::map<std::string, int> ids = first_ids;
  std::vector<std::vector<std::string>> all;
  for (const std::string& w : words) {
    all.emplace_back();
    for (const char c : w) all.back().push_back(bytes_to_alphabet(std::string(1, c)));
  }
  Pairs merges;
  while (merges.size() < count) {
    std::map<std::pair<int, int>, int> counts;
    std::map<std::pair<int, int>, std::pair<std::string, std::string>> texts;
    for (const auto& w : all)
      for (size_t i = 0; i + 1 < w.size(); ++i) {
        const std::pair<int, int> pair{ids.at(w[i]), ids.at(w[i + 1])};
        ++counts[pair];
        texts[pair] = {w[i], w[i + 1]};
      }
    if (counts.empty()) break;
    const auto best = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto [left, right] = texts[best->first];
    merges.emplace_back(left, right);
    ids.emplace(left + right, static_cast<int>(ids.size()));
    for (auto& w : all)
      for (size_t i = 0; i + 1 < w.size(); ++i)
        if (w[i] == left && w[i + 1] == right) {
          w[i] += right;
          w.erase(w.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
  }
  return merges;
}

TEST(BpeTrainer, LearnsTheMergesOfTheTextbookAlgorithm) {
  std::mt19937 draw(17);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> words;
    std::string text;
    for (int i = 0; i < 60; ++i) {
      std::string word;
      for (uint32_t n = 1 + draw() % 9; n > 0; --n)
        word += static_cast<char>('a' + draw() % (2 + static_cast<uint32_t>(round) % 4));
      words.push_back(word);
      text += word + "\n";
    }
    BpeTrainerOptions options;
    options.vocabulary = 257 + 40;
    options.pattern = R"([a-z]+|\n)";
    const std::vector<std::string_view> documents = {text};
    const auto tokenizer = train_bpe(options, documents);
    std::map<std::string, int> ids;
    for (TokenId id = 0; id < 257; ++id)
      ids.emplace(id == 0 ? "<|endoftext|>" : bytes_to_alphabet(tokenizer->token_bytes(id)), id);
    EXPECT_EQ(merges_of(*tokenizer), naive_merges(words, 40, ids)) << round;
  }
}

TEST(BpeTrainer, NumbersSpecialTokensThenBytesThenMerges) {
  BpeTrainerOptions options;
  options.vocabulary = 260;
  options.special_tokens = {"<|endoftext|>", "<|pad|>"};
  const std::vector<std::string_view> documents = {"aaaa bbbb", "aaaa"};
  const auto t = train_bpe(options, documents);
  EXPECT_EQ(t->vocabulary_size(), 260);
  EXPECT_EQ(t->eos(), 0);
  EXPECT_EQ(t->pad(), 1);
  EXPECT_EQ(t->token_bytes(2), "!");
  EXPECT_EQ(t->token_bytes(258), "aa");
  EXPECT_EQ(t->token_bytes(259), "bb");
  EXPECT_EQ(t->encode("aaaa<|pad|>"), (std::vector<TokenId>{258, 258, 1}));
}

TEST(BpeTrainer, ThreadsDoNotChangeTheResult) {
  std::mt19937 draw(4);
  std::vector<std::string> texts(3000);
  for (std::string& t : texts)
    for (uint32_t n = draw() % 300; n > 0; --n) t += "etaoin shrdlu.\xc3\xa9\n"[draw() % 18];
  const std::vector<std::string_view> documents(texts.begin(), texts.end());
  BpeTrainerOptions options;
  options.vocabulary = 700;
  const std::string one = train_bpe(options, documents)->digest();
  options.threads = 4;
  EXPECT_EQ(train_bpe(options, documents)->digest(), one);
}

TEST(BpeTrainer, StopsWhenNoPairIsFrequentEnough) {
  BpeTrainerOptions options;
  options.vocabulary = 1000;
  const std::vector<std::string_view> documents = {"abc abc abc xyz"};
  options.min_frequency = 2;
  const auto t = train_bpe(options, documents);
  EXPECT_NE(t->find("abc"), kNoToken);
  EXPECT_EQ(t->find("xy"), kNoToken);
  EXPECT_EQ(train_bpe(options, std::span<const std::string_view>())->vocabulary_size(), 257);
}

TEST(BpeTrainer, OptionsThatCannotBeMetAreConfigErrors) {
  const std::vector<std::string_view> documents = {"abc"};
  BpeTrainerOptions small, twice, one_byte, broken;
  small.vocabulary = 256;
  twice.special_tokens = {"<a>", "<a>"};
  one_byte.special_tokens = {"!"};
  broken.special_tokens = {"ab\xff"};
  for (const BpeTrainerOptions& options : {small, twice, one_byte, broken})
    EXPECT_THROW(train_bpe(options, documents), ConfigError);
  BpeTrainerOptions pattern;
  pattern.pattern = "(";
  EXPECT_THROW(train_bpe(pattern, documents), DataError);
}

TEST(BpeTrainer, AFailingSourceIsReported) {
  BpeTrainerOptions options;
  options.threads = 3;
  int calls = 0;
  EXPECT_THROW(train_bpe(options,
                         [&](std::string& text) {
                           text = "some text";
                           if (++calls == 1000) throw StorageError("source is gone");
                           return true;
                         }),
               StorageError);
}

}  // namespace
}  // namespace deepflow
