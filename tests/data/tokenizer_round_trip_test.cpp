#include "data/bpe_trainer.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

namespace deepflow {
namespace {

std::unique_ptr<Tokenizer> trained(const std::string& pattern) {
  BpeTrainerOptions options;
  options.vocabulary = 400;
  options.pattern = pattern;
  const std::vector<std::string_view> documents = {"the theme of the thesis is then there; they don't think it's thin",
                                                   "caf\u00e9 caf\u00e9 \u4f60\u597d \u4f60\u597d na\xefve \xff\xfe"};
  return train_bpe(options, documents);
}

std::string random_bytes(std::mt19937& draw) {
  static const char* pieces[] = {"the ",     "then", "caf\u00e9", "\u4f60\u597d",  "\xff",        "\xc3",
                                 "\xe4\xbd", " ",    "\n",        "<|endoftext|>", "\xed\xa0\x80"};
  std::string text;
  for (uint32_t n = draw() % 40; n > 0; --n) {
    if (draw() % 3) {
      text += pieces[draw() % std::size(pieces)];
    } else {
      text += static_cast<char>(draw());
    }
  }
  return text;
}

class RoundTrip : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ =
      std::string(GetParam()) == "byte" ? std::make_unique<ByteTokenizer>() : trained(GetParam());
};

TEST_P(RoundTrip, AnyBytesComeBackExactly) {
  std::mt19937 draw(3);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = random_bytes(draw);
    const std::vector<TokenId> ids = tokenizer_->encode(text);
    ASSERT_EQ(tokenizer_->decode(ids), text);
    std::string joined;
    for (const TokenId id : ids) joined += tokenizer_->token_bytes(id);
    ASSERT_EQ(joined, text);
  }
}

TEST_P(RoundTrip, SpecialTokensAreIdsOrTextAsAsked) {
  const TokenId end = tokenizer_->eos();
  EXPECT_EQ(end, tokenizer_->find("<|endoftext|>"));
  EncodeOptions options;
  const std::string text = "a<|endoftext|>";
  EXPECT_EQ(tokenizer_->encode(text, options), (std::vector<TokenId>{tokenizer_->encode("a")[0], end}));
  EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text), true), "a");
  options.match_special = false;
  const auto ids = tokenizer_->encode(text, options);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 0);
  EXPECT_EQ(tokenizer_->decode(ids), text);
}

TEST_P(RoundTrip, TheNumberOfThreadsDoesNotChangeTheIds) {
  std::mt19937 draw(9);
  std::vector<std::string> texts(500);
  for (std::string& t : texts) t = random_bytes(draw);
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const EncodedDocuments one = encode_documents(*tokenizer_, views, {}, 1);
  ASSERT_EQ(one.ends.size(), texts.size());
  int64_t begin = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<TokenId> ids(one.ids.begin() + begin, one.ids.begin() + one.ends[i]);
    ASSERT_EQ(ids, tokenizer_->encode(texts[i]));
    begin = one.ends[i];
  }
  for (const int threads : {0, 2, 5}) {
    const EncodedDocuments many = encode_documents(*tokenizer_, views, {}, threads);
    EXPECT_EQ(many.ids, one.ids);
    EXPECT_EQ(many.ends, one.ends);
  }
  EXPECT_TRUE(encode_documents(*tokenizer_, {}, {}, 4).ids.empty());
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, RoundTrip,
                         testing::Values("byte", "gpt2", "llama3", "qwen", R"(\w+|\s+|[^\w\s])"));

TEST(ByteTokenizer, IdsAreTheBytes) {
  const ByteTokenizer t;
  EXPECT_EQ(t.encode("a\xff"), (std::vector<TokenId>{97, 255}));
  EXPECT_EQ(t.vocabulary_size(), 257);
  EXPECT_EQ(t.token_bytes(200), "\xc8");
  EXPECT_EQ(t.find("A"), 65);
  EXPECT_EQ(t.find("AB"), kNoToken);
}

TEST(BpeTokenizer, StrayBytesAreWordsOfTheirOwn) {
  const auto t = trained("gpt2");
  const std::string whole = "the then\xff\xfe there";
  std::vector<TokenId> parts = t->encode("the then");
  for (const std::string& piece : {std::string("\xff\xfe"), std::string(" there")}) t->encode(piece, parts, {});
  EXPECT_EQ(t->encode(whole), parts);
}

}  // namespace
}  // namespace deepflow
