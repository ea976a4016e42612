#include "core/error.h"
#include "data/token_store.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<int32_t> read_all(const TokenStore& store) {
  std::vector<int32_t> tokens(static_cast<size_t>(store.num_tokens()));
  store.read(0, tokens);
  return tokens;
}

std::string open_error(const std::string& path) {
  return message_of<Error>([&] { open_token_store(path)->verify(); });
}

template <class T>
void expect_megatron(uint8_t code, int vocabulary) {
  TestFolder folder;
  const auto documents = counting_documents({5, 1, 0, 30}, vocabulary, vocabulary - 20);
  write_megatron<T>(folder.file("text"), documents, code);
  for (const char* name : {"text", "text.bin", "text.idx"}) {
    const auto store = open_token_store(folder.file(name));
    EXPECT_STREQ(store->format(), "megatron");
    EXPECT_EQ(read_all(*store), joined(documents)) << name;
    EXPECT_EQ(store->document_offsets(), (std::vector<int64_t>{0, 5, 6, 6, 36}));
  }
}

TEST(MegatronStore, ReadsEveryTokenType) {
  expect_megatron<uint8_t>(1, 256);
  expect_megatron<int8_t>(2, 128);
  expect_megatron<int16_t>(3, 32768);
  expect_megatron<int32_t>(4, 2000000000);
  expect_megatron<int64_t>(5, 2000000000);
  expect_megatron<double>(6, 2000000000);
  expect_megatron<float>(7, 1 << 24);
  expect_megatron<uint16_t>(8, 65536);
}

TEST(MegatronStore, DocumentsMayHaveSeveralSequences) {
  TestFolder folder;
  write_megatron<uint16_t>(folder.file("a"), counting_documents({3, 4, 5}), 8);
  std::string idx = read_bytes(folder.file("a.idx"));
  idx.resize(idx.size() - 4 * 8);
  idx[26] = 3;  // bounds
  for (const int64_t bound : {0, 2, 3}) put<int64_t>(idx, bound);
  write_bytes(folder.file("a.idx"), idx);
  EXPECT_EQ(open_token_store(folder.file("a"))->document_offsets(), (std::vector<int64_t>{0, 7, 12}));
}

TEST(MegatronStore, ValuesThatAreNoTokensAreRefused) {
  TestFolder folder;
  write_megatron<int16_t>(folder.file("a"), {{1, 2, -3}}, 3);
  EXPECT_THAT(open_error(folder.file("a")), HasSubstr("at position 2"));
  for (const double value : {1.5, -1.0, 3e9, std::numeric_limits<double>::quiet_NaN()}) {
    write_megatron<double>(folder.file("a"), {{7, 7}}, 6);
    std::string bin;
    put<double>(bin, 7);
    put<double>(bin, value);
    write_bytes(folder.file("a.bin"), bin);
    EXPECT_THAT(open_error(folder.file("a")), HasSubstr("at position 1")) << value;
  }
}

TEST(MegatronStore, VocabularyOfTheModelIsChecked) {
  TestFolder folder;
  write_megatron<uint16_t>(folder.file("a"), {{1, 2, 300}}, 8);
  open_token_store(folder.file("a"), 301)->verify();
  EXPECT_THAT(message_of<DataError>([&] { open_token_store(folder.file("a"), 300)->verify(); }),
              HasSubstr("token 300 at position 2 is not below the vocabulary of 300"));
}

TEST(MegatronStore, TruncationAnywhereIsRefused) {
  TestFolder folder;
  write_megatron<uint16_t>(folder.file("a"), counting_documents({3, 4}), 8);
  const std::string idx = read_bytes(folder.file("a.idx")), bin = read_bytes(folder.file("a.bin"));
  for (size_t cut = 0; cut < idx.size(); ++cut) {
    write_bytes(folder.file("a.idx"), idx.substr(0, cut));
    const std::string message = open_error(folder.file("a.idx"));
    EXPECT_THAT(message, HasSubstr(folder.file("a"))) << cut;
    EXPECT_THAT(message, Not(HasSubstr("\n"))) << cut;
  }
  write_bytes(folder.file("a.idx"), idx);
  for (size_t cut = 0; cut < bin.size(); ++cut) {
    write_bytes(folder.file("a.bin"), bin.substr(0, cut));
    EXPECT_THAT(open_error(folder.file("a")), HasSubstr("its index says 7 tokens")) << cut;
  }
  std::filesystem::remove(folder.file("a.bin"));
  EXPECT_THAT(open_error(folder.file("a.bin")), HasSubstr("no such file"));
}

TEST(MegatronStore, FlippedIndexBitsNeverLeaveTheFile) {
  TestFolder folder;
  write_megatron<uint16_t>(folder.file("a"), counting_documents({3, 4}), 8);
  const std::string idx = read_bytes(folder.file("a.idx"));
  int refused = 0;
  for (size_t bit = 0; bit < idx.size() * 8; ++bit) {
    std::string flipped = idx;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    write_bytes(folder.file("a.idx"), flipped);
    const std::string message = open_error(folder.file("a.idx"));
    refused += !message.empty();
    EXPECT_THAT(message, Not(HasSubstr("\n"))) << bit;
  }
  EXPECT_GT(refused, static_cast<int>(idx.size() * 7));
}

TEST(LlmcStore, ReadsBothVersionsAndFindsDocuments) {
  TestFolder folder;
  const std::vector<int32_t> gpt2 = {50256, 1, 2, 50256, 3, 50256};
  write_llmc<uint16_t>(folder.file("a.bin"), gpt2, 20240520, 1);
  auto store = open_token_store(folder.file("a.bin"));
  EXPECT_STREQ(store->format(), "llm.c");
  EXPECT_EQ(read_all(*store), gpt2);
  EXPECT_EQ(store->document_offsets(), (std::vector<int64_t>{0, 3, 5, 6}));
  EXPECT_EQ(store->num_documents(), 3);
  EXPECT_EQ(store->vocabulary_size(), 50257);
  const std::vector<int32_t> llama = {128000, 99999, 128001, 128000, 5};
  write_llmc<uint32_t>(folder.file("b.bin"), llama, 20240801, 7);
  store = open_token_store(folder.file("b.bin"));
  EXPECT_EQ(read_all(*store), llama);
  EXPECT_EQ(store->document_offsets(), (std::vector<int64_t>{0, 3, 5}));
}

TEST(LlmcStore, DamagedFilesAreRefused) {
  TestFolder folder;
  const std::string path = folder.file("a.bin");
  write_llmc<uint16_t>(path, {1, 2, 3, 50257}, 20240520, 1);
  EXPECT_THAT(open_error(path), HasSubstr("token 50257 at position 3 is not below the vocabulary of 50257"));
  const std::string bytes = read_bytes(path);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    write_bytes(path, bytes.substr(0, cut));
    EXPECT_THAT(open_error(path), HasSubstr(path)) << cut;
  }
  write_bytes(path, bytes + "x");
  EXPECT_THAT(open_error(path), HasSubstr("its head says 4 tokens of 2 bytes"));
  write_llmc<uint16_t>(path, {1, 2, 3}, 20240520, 2);
  EXPECT_THAT(open_error(path), HasSubstr("of version 2, this program reads version 1"));
  write_llmc<uint16_t>(path, {}, 20240520, 1);
  EXPECT_THAT(open_error(path), HasSubstr("its head says 0 tokens"));
}

TEST(ForeignStores, DigestFollowsTheContent) {
  TestFolder folder;
  const auto documents = counting_documents({300, 400});
  const auto digest = [&](const TestDocuments& written) {
    write_megatron<uint16_t>(folder.file("a"), written, 8);
    return open_token_store(folder.file("a"))->digest();
  };
  const std::string first = digest(documents);
  EXPECT_EQ(first.size(), 32u);
  EXPECT_EQ(first, digest(documents));
  EXPECT_NE(first, digest(counting_documents({301, 399})));
  EXPECT_NE(first, digest(counting_documents({300, 400}, 1000, 1)));
}

}  // namespace
}  // namespace deepflow
