#include "data/document_reader.h"

#include "core/error.h"
#include "data/document_input.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

namespace deepflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> read_documents(const std::vector<std::string>& paths, const DocumentOptions& options = {}) {
  std::vector<std::string> documents;
  const auto reader = open_documents(paths, options);
  for (std::string document; reader->next(&document);) documents.push_back(document);
  return documents;
}

void write_gzip(const std::string& path, const std::string& bytes) {
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
}

TEST(DocumentReader, FileIsOneDocumentOfAnyBytes) {
  TestFolder folder;
  const std::string bytes("\xff\x00 text\r\n\xc3", 10);
  write_bytes(folder.file("a.txt"), bytes);
  EXPECT_THAT(read_documents({folder.file("a.txt")}), ElementsAre(bytes));
}

TEST(DocumentReader, SeparatorDividesAndBelongsToNone) {
  TestFolder folder;
  write_bytes(folder.file("a.txt"), "<|x|>one<|x|><|x|>two <|x three<|x|>");
  EXPECT_THAT(read_documents({folder.file("a.txt")}, {"<|x|>"}), ElementsAre("one", "two <|x three"));
}

TEST(DocumentReader, SeparatorsAcrossBlocksAreFound) {
  TestFolder folder;
  std::mt19937 random(6);
  std::string bytes;
  std::vector<std::string> expected;
  for (int i = 0; i < 300; ++i) {
    expected.push_back(std::string(1 + random() % 9000, 'a'));
    bytes += expected.back() + "\n\n";
  }
  write_bytes(folder.file("a.txt"), bytes);
  EXPECT_EQ(read_documents({folder.file("a.txt")}, {"\n\n"}), expected);
}

TEST(DocumentReader, LongDocumentsAreCutAndLoseNothing) {
  TestFolder folder;
  std::mt19937 random(7);
  std::string bytes;
  for (int i = 0; i < 20000; ++i) bytes += random() % 11 == 0 ? "\n" : random() % 2 ? "\xe2\x82\xac" : "word ";
  write_bytes(folder.file("a.txt"), bytes);
  for (const int64_t size : {1, 2, 7, 100, 4096, 1 << 20}) {
    std::string again;
    for (const std::string& document : read_documents({folder.file("a.txt")}, {"", size})) {
      ASSERT_LE(static_cast<int64_t>(document.size()), size);
      if (size >= 7) {
        ASSERT_NE(static_cast<unsigned char>(document.front()) & 0xc0, 0x80) << "cut inside a character";
      }
      again += document;
    }
    EXPECT_EQ(again, bytes) << size;
  }
}

TEST(DocumentReader, LongDocumentIsCutBehindALine) {
  TestFolder folder;
  write_bytes(folder.file("a.txt"), "12345\n789ABC");
  EXPECT_THAT(read_documents({folder.file("a.txt")}, {"", 8}), ElementsAre("12345\n", "789ABC"));
}

TEST(DocumentReader, JsonLines) {
  TestFolder folder;
  write_bytes(folder.file("a.jsonl"), "{\"text\":\"one\\n\\u20ac\",\"id\":1}\r\n\n{\"text\":\"\"}\n{\"text\":\"two\"}");
  EXPECT_THAT(read_documents({folder.file("a.jsonl")}), ElementsAre("one\n\xe2\x82\xac", "two"));
  EXPECT_THAT(message_of<DataError>([&] {
                read_documents({folder.file("a.jsonl")}, {"", 10, "body"});
              }),
              HasSubstr("a.jsonl:1: no key \"body\""));
  write_bytes(folder.file("b.jsonl"), "{\"text\":\"one\"}\n{\"text\":7}\n");
  EXPECT_THAT(message_of<DataError>([&] { read_documents({folder.file("b.jsonl")}); }),
              HasSubstr("b.jsonl:2: the value of \"text\" is not text"));
  for (const char* line : {"{\"text\":", "\xff", "{\"text\":\"\xff\"}"}) {
    write_bytes(folder.file("c.jsonl"), line);
    EXPECT_THAT(message_of<DataError>([&] { read_documents({folder.file("c.jsonl")}); }),
                HasSubstr("c.jsonl:1: not JSON"));
  }
  write_bytes(folder.file("c.jsonl"), "[1]");
  EXPECT_THAT(message_of<DataError>([&] { read_documents({folder.file("c.jsonl")}); }), HasSubstr("not an object"));
}

TEST(DocumentReader, CompressedFilesReadLikePlainOnes) {
  TestFolder folder;
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i) + "\n";
  write_gzip(folder.file("a.txt.gz"), text);
  write_gzip(folder.file("b.dict.dz"), text);
  write_gzip(folder.file("c.jsonl.gz"), "{\"text\":\"one\"}\n");
  EXPECT_THAT(read_documents({folder.file("a.txt.gz"), folder.file("b.dict.dz"), folder.file("c.jsonl.gz")}),
              ElementsAre(text, text, "one"));
}

TEST(DocumentReader, DamagedCompressionIsRefused) {
  TestFolder folder;
  std::mt19937 random(8);
  std::string text(200000, ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 20);
  write_gzip(folder.file("a.gz"), text);
  const std::string bytes = read_bytes(folder.file("a.gz"));
  for (const size_t cut : {size_t{20}, bytes.size() / 2, bytes.size() - 9, bytes.size() - 1}) {
    write_bytes(folder.file("cut.gz"), bytes.substr(0, cut));
    EXPECT_THAT(message_of<DataError>([&] { read_documents({folder.file("cut.gz")}); }), HasSubstr("ends too early"));
  }
  std::string damaged = bytes;
  damaged[bytes.size() / 2] ^= 0x55;
  write_bytes(folder.file("bad.gz"), damaged);
  EXPECT_THAT(message_of<DataError>([&] { read_documents({folder.file("bad.gz")}); }), HasSubstr("is damaged"));
}

TEST(DocumentReader, FoldersGiveTheirFilesByName) {
  TestFolder folder;
  std::filesystem::create_directories(folder.file("in/sub"));
  std::filesystem::create_directories(folder.file("in/.git"));
  write_bytes(folder.file("in/b.txt"), "b");
  write_bytes(folder.file("in/a.jsonl"), "{\"text\":\"a\"}");
  write_bytes(folder.file("in/sub/c.txt"), "c");
  write_bytes(folder.file("in/.hidden"), "no");
  write_bytes(folder.file("in/.git/d.txt"), "no");
  EXPECT_THAT(read_documents({folder.file("in"), folder.file("in/b.txt")}), ElementsAre("a", "b", "c", "b"));
  EXPECT_THAT(message_of<StorageError>([&] { read_documents({folder.file("none")}); }),
              HasSubstr("no such file or folder"));
  std::filesystem::create_directories(folder.file("empty"));
  EXPECT_THAT(message_of<DataError>([&] { read_documents({folder.file("empty")}); }), HasSubstr("holds no files"));
}

}  // namespace
}  // namespace deepflow
