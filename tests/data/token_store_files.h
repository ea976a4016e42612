#pragma once

#include "data/token_store_writer.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace deepflow {

// A folder for one test, removed with what is in it.
class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "deepflow_data_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

using TestDocuments = std::vector<std::vector<int32_t>>;

// Documents of the given lengths; tokens count up from `first` and wrap at the vocabulary.
inline TestDocuments counting_documents(const std::vector<int>& lengths, int vocabulary = 1000, int first = 0) {
  TestDocuments documents;
  for (const int length : lengths) {
    documents.emplace_back();
    for (int i = 0; i < length; ++i) documents.back().push_back(first++ % vocabulary);
  }
  return documents;
}

inline std::vector<int32_t> joined(const TestDocuments& documents) {
  std::vector<int32_t> tokens;
  for (const auto& document : documents) tokens.insert(tokens.end(), document.begin(), document.end());
  return tokens;
}

inline void write_store(const std::string& path, const TestDocuments& documents, int64_t vocabulary = 1000,
                        const std::string& tokenizer = "0123456789abcdef") {
  TokenStoreWriter writer(path, vocabulary, tokenizer);
  for (const auto& document : documents) writer.append(document, static_cast<int64_t>(document.size()) * 3);
  writer.finish();
}

// Megatron's pair; each document is one sequence.
template <class T>
void write_megatron(const std::string& prefix, const TestDocuments& documents, uint8_t code) {
  std::string bin, idx("MMIDIDX\0\0", 9), pointers, bounds;
  put<uint64_t>(idx, 1);
  put<uint8_t>(idx, code);
  put<uint64_t>(idx, documents.size());
  put<uint64_t>(idx, documents.size() + 1);
  put<int64_t>(bounds, 0);
  for (size_t d = 0; d < documents.size(); ++d) {
    put<int32_t>(idx, static_cast<int32_t>(documents[d].size()));
    put<int64_t>(pointers, static_cast<int64_t>(bin.size()));
    put<int64_t>(bounds, static_cast<int64_t>(d + 1));
    for (const int32_t token : documents[d]) put<T>(bin, static_cast<T>(token));
  }
  write_bytes(prefix + ".bin", bin);
  write_bytes(prefix + ".idx", idx + pointers + bounds);
}

template <class T>
void write_llmc(const std::string& path, const std::vector<int32_t>& tokens, int32_t magic, int32_t version) {
  std::string bytes;
  put<int32_t>(bytes, magic);
  put<int32_t>(bytes, version);
  put<int32_t>(bytes, static_cast<int32_t>(tokens.size()));
  bytes.resize(1024, '\0');
  for (const int32_t token : tokens) put<T>(bytes, static_cast<T>(token));
  write_bytes(path, bytes);
}

// The message of the error that `action` throws, "" when it throws none.
template <class E, class F>
std::string message_of(F action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace deepflow
