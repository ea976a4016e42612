// Ids and text of Hugging Face tokenizers for many settings of tokenizer.json (tokenizer_goldens.py made them).
#include "data/tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

using Json = nlohmann::json;

const Json& goldens() {
  static const Json all =
      Json::parse(std::ifstream(std::filesystem::path(__FILE__).replace_filename("tokenizer_goldens.json")));
  return all;
}

std::unique_ptr<Tokenizer> tokenizer_of(const Json& golden) {
  Json root = goldens()["bases"][golden["base"].get<std::string>()];
  root.merge_patch(golden["patch"]);
  return parse_tokenizer(root.dump(), "", "golden.json");
}

class TokenizerGolden : public testing::TestWithParam<size_t> {};

TEST_P(TokenizerGolden, EncodesAsHuggingFaceTokenizersDoes) {
  const Json& golden = goldens()["cases"][GetParam()];
  SCOPED_TRACE(golden["name"]);
  const auto tokenizer = tokenizer_of(golden);
  const Json& texts = goldens()["texts"];
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    SCOPED_TRACE(texts[i].dump());
    EXPECT_EQ(tokenizer->encode(text), golden["ids"][i].get<std::vector<TokenId>>());
    EncodeOptions as_text;
    as_text.match_special = false;
    const Json& unmatched = golden["ids_special_as_text"].is_null() ? golden["ids"] : golden["ids_special_as_text"];
    EXPECT_EQ(tokenizer->encode(text, as_text), unmatched[i].get<std::vector<TokenId>>());
  }
  EncodeOptions with_special;
  with_special.add_special = true;
  EXPECT_EQ(tokenizer->encode("the dog", with_special), golden["with_special"].get<std::vector<TokenId>>());
}

TEST_P(TokenizerGolden, DecodesAsHuggingFaceTokenizersDoes) {
  const Json& golden = goldens()["cases"][GetParam()];
  SCOPED_TRACE(golden["name"]);
  const auto tokenizer = tokenizer_of(golden);
  for (size_t i = 0; i < golden["ids"].size(); ++i) {
    const auto expected = golden["decoded"][i].get<std::string>();
    // The reference reads the text of an added token in the byte alphabet, where a letter above ASCII is another byte.
    if (expected.find("\xef\xbf\xbd") != std::string::npos) continue;
    const auto ids = golden["ids"][i].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer->decode(ids), expected) << goldens()["texts"][i].dump();
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, TokenizerGolden, testing::Range<size_t>(0, goldens()["cases"].size()));

}  // namespace
}  // namespace deepflow
