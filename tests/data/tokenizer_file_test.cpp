// What happens with a tokenizer.json that is broken, hostile or says more than is implemented.
#include "core/error.h"
#include "data/bpe_trainer.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

namespace deepflow {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

const char kSmall[] = R"({"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":4,"content":"<e>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<e>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
"pair":[],"special_tokens":{"<e>":{"id":"<e>","ids":[4],"tokens":["<e>"]}}},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":"a","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,
"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"ab":2,"abb":3},"merges":["a b",["ab","b"]]}})";

std::unique_ptr<Tokenizer> parse(const std::string& json) { return parse_tokenizer(json, "", "t.json"); }

// The error of `json` after a change, "" when it is accepted.
std::string error_of(const std::string& pointer, const Json& value) {
  Json root = Json::parse(kSmall);
  root[Json::json_pointer(pointer)] = value;
  try {
    parse(root.dump());
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

TEST(TokenizerFile, TheSmallOneWorks) {
  const auto t = parse(kSmall);
  EXPECT_EQ(t->encode("abb<e>ba"), (std::vector<TokenId>{3, 4, 1, 0}));
  EXPECT_EQ(t->vocabulary_size(), 5);
  EXPECT_EQ(t->find("<e>"), 4);
  EXPECT_EQ(t->find("abb"), 3);
  EXPECT_EQ(t->find("abc"), kNoToken);
  EXPECT_THROW(t->token_bytes(5), DataError);
  EXPECT_THROW(t->token_bytes(-1), DataError);
  EXPECT_THROW(t->decode(std::vector<TokenId>{0, 99}), DataError);
}

TEST(TokenizerFile, TruncatedAtAnyByteIsADataError) {
  const std::string whole = kSmall;
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_THROW(parse(whole.substr(0, n)), DataError) << n;
}

TEST(TokenizerFile, AnyByteChangedIsReadOrADataError) {
  const std::string whole = kSmall;
  std::mt19937 draw(5);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string changed = whole;
    for (uint32_t n = 1 + draw() % 3; n > 0; --n) changed[draw() % changed.size()] = static_cast<char>(draw());
    try {
      parse(changed)->encode("abba <e> x");
    } catch (const DataError& e) {
      ++refused;
      ASSERT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
  EXPECT_GT(refused, 15000);
}

TEST(TokenizerFile, AnyValueReplacedIsReadOrADataError) {
  const Json root = Json::parse(kSmall);
  const std::vector<Json> values = {nullptr,
                                    true,
                                    -1,
                                    7,
                                    1e300,
                                    uint64_t{1} << 63,
                                    "",
                                    "x",
                                    "\xc3\xa9",
                                    Json::array(),
                                    Json::object(),
                                    Json::array({Json::array({1})}),
                                    {{"type", "Nonsense"}},
                                    {{"type", 3}},
                                    {{"a", 1099511627776}}};
  const Json flat = root.flatten();
  for (const auto& item : flat.items()) {
    Json::json_pointer at(item.key());
    for (; !at.empty(); at = at.parent_pointer()) {
      for (const Json& value : values) {
        Json changed = root;
        changed[at] = value;
        try {
          parse(changed.dump())->encode("abba <e> x");
        } catch (const DataError&) {
        }
      }
      Json without = root;
      Json& parent = without[at.parent_pointer()];
      if (parent.is_object()) parent.erase(at.back());
      try {
        parse(without.dump())->encode("abba <e> x");
      } catch (const DataError&) {
      }
    }
  }
}

TEST(TokenizerFile, WrongContentIsNamedByItsPlace) {
  EXPECT_THAT(error_of("/model/vocab", nullptr), HasSubstr("t.json: model.vocab is null, expected an object"));
  EXPECT_THAT(error_of("/normalizer", Json::object()), HasSubstr("normalizer has no \"type\""));
  EXPECT_THAT(error_of("/model/vocab", Json::object()), HasSubstr("model.vocab is empty"));
  EXPECT_THAT(error_of("/model/vocab/b", 0), HasSubstr("have the same id 0"));
  EXPECT_THAT(error_of("/model/vocab/b", 1.5), HasSubstr("model.vocab gives token \"b\" the id 1.5"));
  EXPECT_THAT(error_of("/model/vocab/b", -3), HasSubstr("the id -3"));
  EXPECT_THAT(error_of("/model/vocab/b", 1000000000), HasSubstr("without large holes"));
  EXPECT_THAT(error_of("/model/vocab/b", uint64_t{1} << 40), HasSubstr("the id 1099511627776"));
  EXPECT_THAT(error_of("/model/merges/0", "a c"), HasSubstr("model.merges[0] needs the token \"c\""));
  EXPECT_THAT(error_of("/model/merges/0", "b a"), HasSubstr("needs the token \"ba\""));
  EXPECT_THAT(error_of("/model/merges/1", "ab"), HasSubstr("model.merges[1] is \"ab\", expected two tokens"));
  EXPECT_THAT(error_of("/model/merges/1", Json::array({"a"})),
              HasSubstr("model.merges[1] is an array of another length"));
  EXPECT_THAT(error_of("/model/merges/1/0", 3), HasSubstr("model.merges[1][0] is number, expected a string"));
  EXPECT_THAT(error_of("/model/unk_token", "zz"), HasSubstr("model.unk_token \"zz\" is not in model.vocab"));
  EXPECT_THAT(error_of("/added_tokens/0/id", 9), HasSubstr("added_tokens[0].id is 9"));
  EXPECT_THAT(error_of("/added_tokens/0/content", "ab"), HasSubstr("\"ab\" has the id 2"));
  EXPECT_THAT(error_of("/post_processor/special_tokens/<e>/ids/0", 77), HasSubstr("the id 77"));
  EXPECT_THAT(error_of("/post_processor/single/0/SpecialToken/id", "<x>"),
              HasSubstr("post_processor.special_tokens has no \"<x>\""));
}

TEST(TokenizerFile, WhatIsNotImplementedIsRefusedByItsPlace) {
  EXPECT_THAT(error_of("/model/type", "Unigram"), HasSubstr("model.type is \"Unigram\"; only BPE"));
  EXPECT_THAT(error_of("/model/dropout", 0.1), HasSubstr("model.dropout is not supported"));
  EXPECT_THAT(error_of("/model/continuing_subword_prefix", "##"),
              HasSubstr("model.continuing_subword_prefix is not supported"));
  EXPECT_THAT(error_of("/model/end_of_word_suffix", "</w>"), HasSubstr("model.end_of_word_suffix is not supported"));
  EXPECT_THAT(error_of("/model/novelty", true), HasSubstr("model has the key \"novelty\""));
  EXPECT_THAT(error_of("/novelty", 1), HasSubstr("the top level has the key \"novelty\""));
  EXPECT_THAT(error_of("/version", "2.0"), HasSubstr("version is \"2.0\""));
  EXPECT_THAT(error_of("/normalizer/type", "NFKC"), HasSubstr("normalizer.type is \"NFKC\", which is not supported"));
  EXPECT_THAT(error_of("/pre_tokenizer/type", "Whitespace"), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(error_of("/decoder/type", "WordPiece"), HasSubstr("decoder.type is \"WordPiece\""));
  EXPECT_THAT(error_of("/post_processor/type", "BertProcessing"),
              HasSubstr("post_processor.type is \"BertProcessing\""));
  EXPECT_THAT(error_of("/added_tokens/0/novelty", true), HasSubstr("added_tokens[0] has the key \"novelty\""));
  const Json nested = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Punctuation"}, {"behavior", "Isolated"}}}}};
  EXPECT_THAT(error_of("/pre_tokenizer", nested), HasSubstr("pre_tokenizer.pretokenizers[0].type is \"Punctuation\""));
  const Json split = {{"type", "Split"}, {"pattern", {{"Regex", "\\h+"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const Json cut = {{"type", "Sequence"}, {"pretokenizers", {split, {{"type", "ByteLevel"}}}}};
  EXPECT_THAT(error_of("/pre_tokenizer", cut),
              HasSubstr("t.json: pre_tokenizer: \\h at byte 0 of the pattern is not supported"));
}

TEST(TokenizerFile, HostileSizesAreRefused) {
  EXPECT_THROW(parse(std::string(1000000, '[')), DataError);
  EXPECT_THROW(parse("{\"model\":" + std::string(100000, '[') + std::string(100000, ']') + "}"), DataError);
  EXPECT_THROW(parse(std::string(100, '\0')), DataError);
  EXPECT_THROW(parse("\xff\xfe{}"), DataError);
  EXPECT_THROW(parse("[]"), DataError);
  EXPECT_THROW(parse("{\"model\":{\"vocab\":{\"a\xff\":0},\"merges\":[]}}"), DataError);
}

// Each step multiplies what the one before it made.
TEST(TokenizerFile, StepsThatFillTheMemoryAreRefused) {
  const auto refuses = [](const std::string& pointer, const Json& step, const char* list, const char* of) {
    Json root = Json::parse(kSmall);
    root["pre_tokenizer"] = nullptr;
    root["decoder"] = nullptr;
    root[Json::json_pointer(pointer)] = {{"type", "Sequence"}, {list, Json::array()}};
    for (int i = 0; i < 40; ++i) root[Json::json_pointer(pointer)][list].push_back(step);
    EXPECT_THROW(parse(root.dump())->encode(of), DataError) << pointer;
  };
  const Json doubles = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  refuses("/normalizer", doubles, "normalizers", "a");
  refuses("/decoder", doubles, "decoders", "a");
  const Json widens = {{"type", "Metaspace"}, {"replacement", "  "}, {"prepend_scheme", "never"}, {"split", false}};
  refuses("/pre_tokenizer", widens, "pretokenizers", " ");
}

TEST(TokenizerFile, TheDigestNamesTheContentNotItsLayout) {
  Json root = Json::parse(kSmall);
  const std::string digest = parse(kSmall)->digest();
  EXPECT_EQ(digest.size(), 32u);
  root["model"]["merges"] = {{"a", "b"}, "ab b"};
  root["truncation"] = {{"max_length", 512}};
  root.erase("padding");
  EXPECT_EQ(parse(root.dump(4))->digest(), digest);
  root["model"]["ignore_merges"] = true;
  EXPECT_NE(parse(root.dump())->digest(), digest);
}

class TokenizerFolder : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/deepflow_tokenizer_XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(TokenizerFolder, SavedTokenizersComeBackTheSame) {
  BpeTrainerOptions options;
  options.vocabulary = 300;
  options.pattern = "llama3";
  const std::vector<std::string_view> documents = {"the theme of the thesis", "then there"};
  const auto bpe = train_bpe(options, documents);
  const ByteTokenizer byte;
  for (const Tokenizer* original : {static_cast<const Tokenizer*>(bpe.get()), static_cast<const Tokenizer*>(&byte)}) {
    save_tokenizer(*original, folder_ + "/a/b");
    for (const char* path : {"/a/b", "/a/b/tokenizer.json"}) {
      const auto loaded = load_tokenizer(folder_ + path);
      EXPECT_EQ(loaded->digest(), original->digest());
      EXPECT_EQ(loaded->encode("the then<|endoftext|> \xff"), original->encode("the then<|endoftext|> \xff"));
      EXPECT_EQ(loaded->eos(), original->find("<|endoftext|>"));
      EXPECT_EQ(loaded->bos(), original->bos());
    }
  }
  EXPECT_EQ(load_tokenizer("byte")->digest(), byte.digest());
}

TEST_F(TokenizerFolder, SpecialTokensComeFromTokenizerConfig) {
  std::ofstream(folder_ + "/tokenizer.json") << kSmall;
  std::ofstream(folder_ + "/tokenizer_config.json")
      << R"({"bos_token":"ab","eos_token":{"content":"<e>"},"pad_token":null})";
  const auto t = load_tokenizer(folder_);
  EXPECT_EQ(t->bos(), 2);
  EXPECT_EQ(t->eos(), 4);
  EXPECT_EQ(t->pad(), kNoToken);
  std::ofstream(folder_ + "/tokenizer_config.json") << R"({"bos_token":7})";
  EXPECT_THROW(load_tokenizer(folder_), DataError);
}

TEST_F(TokenizerFolder, MissingAndUnwritableFilesAreStorageErrors) {
  EXPECT_THROW(load_tokenizer(folder_ + "/none"), StorageError);
  EXPECT_THROW(load_tokenizer(folder_), StorageError);
  std::ofstream(folder_ + "/file") << "x";
  EXPECT_THROW(save_tokenizer(ByteTokenizer(), folder_ + "/file/below"), StorageError);
}

}  // namespace
}  // namespace deepflow
