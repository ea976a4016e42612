#include "data/token_store.h"

#include "core/error.h"
#include "core/hdf5_handle.h"
#include "data/document_input.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <random>
#include <thread>

namespace deepflow {
namespace {

using ::testing::AnyOf;
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

TEST(TokenStore, GivesBackWhatWasWritten) {
  TestFolder folder;
  for (const int64_t vocabulary : {1000, 65536, 65537, 200000}) {
    const auto documents =
        counting_documents({5, 1, 300, 77}, static_cast<int>(vocabulary), static_cast<int>(vocabulary) - 100);
    write_store(folder.file("a.h5"), documents, vocabulary, "digest");
    const auto store = open_token_store(folder.file("a.h5"));
    EXPECT_STREQ(store->format(), "hdf5");
    EXPECT_EQ(read_all(*store), joined(documents));
    EXPECT_EQ(store->document_offsets(), (std::vector<int64_t>{0, 5, 6, 306, 383}));
    EXPECT_EQ(store->num_documents(), 4);
    EXPECT_EQ(store->vocabulary_size(), vocabulary);
    EXPECT_EQ(store->tokenizer_digest(), "digest");
    EXPECT_EQ(store->source_bytes(), 383 * 3);
    store->verify();
  }
}

TEST(TokenStore, SpansManyChunks) {
  TestFolder folder;
  std::mt19937 random(1);
  TestDocuments documents(9000);  // more than one chunk of offsets
  for (auto& document : documents) {
    document.resize(300);
    for (int32_t& token : document) token = static_cast<int32_t>(random() % 50000);
  }
  write_store(folder.file("a.h5"), documents, 50000);
  const auto store = open_token_store(folder.file("a.h5"));
  const auto tokens = joined(documents);
  ASSERT_EQ(store->num_tokens(), 2700000);
  store->verify();
  for (const int64_t first : {int64_t{0}, (int64_t{1} << 20) - 7, (int64_t{1} << 21) - 1, int64_t{2700000 - 20}}) {
    std::vector<int32_t> window(20);
    store->read(first, window);
    EXPECT_TRUE(std::equal(window.begin(), window.end(), tokens.begin() + first)) << first;
  }
}

TEST(TokenStore, SameDocumentsGiveSameBytesAndDigest) {
  TestFolder folder;
  const auto documents = counting_documents({40, 60});
  write_store(folder.file("a.h5"), documents);
  // Times in the file would count seconds.
  for (const time_t start = std::time(nullptr); std::time(nullptr) == start;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  write_store(folder.file("b.h5"), documents);
  EXPECT_TRUE(read_bytes(folder.file("a.h5")) == read_bytes(folder.file("b.h5")));
  auto other = documents;
  other[1][59] ^= 1;
  write_store(folder.file("c.h5"), other);
  write_store(folder.file("d.h5"), counting_documents({41, 59}));
  const std::string digest = open_token_store(folder.file("a.h5"))->digest();
  EXPECT_EQ(digest.size(), 32u);
  EXPECT_EQ(digest, open_token_store(folder.file("b.h5"))->digest());
  EXPECT_NE(digest, open_token_store(folder.file("c.h5"))->digest());
  EXPECT_NE(digest, open_token_store(folder.file("d.h5"))->digest());
}

// Written by golden/make_token_store.py from the grammar alone.
TEST(TokenStore, ReadsTheGoldenStore) {
  TestFolder folder;
  DocumentInput packed((std::filesystem::path(__FILE__).parent_path() / "golden/token_store.h5.gz").string());
  std::string bytes(16 << 20, '\0');
  bytes.resize(packed.read(bytes.data(), bytes.size()));
  write_bytes(folder.file("golden.h5"), bytes);
  const auto store = open_token_store(folder.file("golden.h5"));
  store->verify();
  EXPECT_EQ(store->digest(), "6884ad64211ab06fdfab93cf445b756e");
  EXPECT_EQ(store->document_offsets(), (std::vector<int64_t>{0, 3, 503, 504, 600}));
  EXPECT_EQ(store->vocabulary_size(), 70000);
  EXPECT_EQ(store->source_bytes(), 2468);
  EXPECT_EQ(store->tokenizer_digest(), "00112233445566778899aabbccddeeff");
  const std::vector<int32_t> tokens = read_all(*store);
  for (size_t i = 0; i < tokens.size(); ++i) EXPECT_EQ(tokens[i], static_cast<int32_t>(i * 2654435761u % 70000));

  TokenStoreWriter writer(folder.file("ours.h5"), 70000, store->tokenizer_digest());
  for (int d = 0; d < 4; ++d) {
    const auto first = static_cast<size_t>(store->document_offsets()[d]);
    const auto last = static_cast<size_t>(store->document_offsets()[d + 1]);
    writer.append(std::span(tokens).subspan(first, last - first), 617);
  }
  writer.finish();
  EXPECT_EQ(open_token_store(folder.file("ours.h5"))->digest(), store->digest());
}

TEST(TokenStore, MissingFileSaysSo) {
  EXPECT_THAT(open_error("/nowhere/train.h5"), HasSubstr("/nowhere/train.h5: no such file"));
  EXPECT_THAT(open_error("/tmp"), HasSubstr("not a regular file"));
}

TEST(TokenStore, OtherFilesAreRefused) {
  TestFolder folder;
  for (const std::string& bytes : {std::string(), std::string("short"), std::string(5000, 'x')}) {
    write_bytes(folder.file("a"), bytes);
    EXPECT_THAT(open_error(folder.file("a")), HasSubstr("not a token store"));
  }
}

// Every cut must be refused, on one line, naming the file.
TEST(TokenStore, TruncatedStoreIsRefused) {
  TestFolder folder;
  write_store(folder.file("whole.h5"), counting_documents({700, 800}));
  const std::string bytes = read_bytes(folder.file("whole.h5"));
  const std::string path = folder.file("cut.h5");
  std::mt19937_64 random(2);
  for (size_t i = 0; i < 300; ++i) {
    const size_t cut = i < 200 ? i * 7 : random() % bytes.size();
    write_bytes(path, bytes.substr(0, cut));
    const std::string message = open_error(path);
    EXPECT_THAT(message, HasSubstr(path)) << cut;
    EXPECT_THAT(message, Not(HasSubstr("\n"))) << cut;
  }
}

// A flipped bit is refused or changes nothing that can be read.
TEST(TokenStore, FlippedBitsAreRefusedOrHarmless) {
  TestFolder folder;
  const auto documents = counting_documents({700, 800});
  write_store(folder.file("whole.h5"), documents);
  const std::string bytes = read_bytes(folder.file("whole.h5"));
  const std::string path = folder.file("flipped.h5");
  write_bytes(path, bytes);
  std::vector<size_t> places;  // all that is not the empty rest of a chunk
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != 0 || (i > 0 && bytes[i - 1] != 0)) places.push_back(i);
  }
  std::mt19937_64 random(3);
  int refused = 0;
  for (int i = 0; i < 1500; ++i) {
    const size_t place = places[random() % places.size()];
    const char flipped = static_cast<char>(bytes[place] ^ (1 << random() % 8));
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(place)).put(flipped).flush();
    try {
      const auto store = open_token_store(path);
      store->verify();
      EXPECT_EQ(read_all(*store), joined(documents)) << place;
      EXPECT_EQ(store->document_offsets(), (std::vector<int64_t>{0, 700, 1500})) << place;
    } catch (const Error& error) {
      ++refused;
      EXPECT_THAT(error.what(), HasSubstr(path)) << place;
      EXPECT_THAT(error.what(), Not(HasSubstr("\n"))) << place;
    }
    file.seekp(static_cast<std::streamoff>(place)).put(bytes[place]).flush();
  }
  EXPECT_GT(refused, 1000);
  Hdf5Lock lock;
  EXPECT_EQ(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);  // nothing stays open behind an error
}

TEST(TokenStore, EmptyStoreIsNotWritten) {
  TestFolder folder;
  EXPECT_THAT(message_of<DataError>([&] { write_store(folder.file("a.h5"), {}); }), HasSubstr("no tokens"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TokenStore, TokenOutsideTheVocabularyIsNotWritten) {
  TestFolder folder;
  EXPECT_THAT(message_of<DataError>([&] {
                write_store(folder.file("a.h5"), {{1, 1000}}, 1000);
              }),
              HasSubstr("token 1000 in document 0 is not below the vocabulary of 1000"));
  EXPECT_THAT(message_of<DataError>([&] { write_store(folder.file("a.h5"), {{-1}}, 1000); }), HasSubstr("token -1"));
}

TEST(TokenStore, WrongTokenizerAndVocabularyAreNamed) {
  TestFolder folder;
  write_store(folder.file("a.h5"), counting_documents({10}), 1000, "41aa00000000000000000000000000ff");
  const auto store = open_token_store(folder.file("a.h5"));
  check_tokenizer(*store, "41aa00000000000000000000000000ff");
  check_tokenizer(*store, "");
  EXPECT_THAT(message_of<DataError>([&] { check_tokenizer(*store, "9f2c0000000000000000000000000000"); }),
              AnyOf(HasSubstr("tokenizer 41aa00000000 but the recipe's is 9f2c00000000; run: deepflow data tokenize")));
  check_vocabulary(*store, 1000);
  EXPECT_THAT(message_of<DataError>([&] { check_vocabulary(*store, 999); }), HasSubstr("the model's only 999"));
}

}  // namespace
}  // namespace deepflow
