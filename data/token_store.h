#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// Tokens of many documents laid end to end, on disk, read by position. Three formats hide behind it: our HDF5 store
// (docs/formats/token_store.md), Megatron-LM's indexed data set (.bin with .idx) and llm.c's .bin.
// Every method may be called from several threads.
class TokenStore {
 public:
  virtual ~TokenStore() = default;
  TokenStore(const TokenStore&) = delete;
  TokenStore& operator=(const TokenStore&) = delete;

  const std::string& path() const { return path_; }
  virtual const char* format() const = 0;  // "hdf5", "megatron", "llm.c"
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(document_offsets().size()) - 1; }
  // First token of each document, then num_tokens(). Never falls. 8 bytes a document in memory.
  virtual const std::vector<int64_t>& document_offsets() const { return document_offsets_; }

  int64_t vocabulary_size() const { return vocabulary_size_; }               // 0: the format does not say
  const std::string& tokenizer_digest() const { return tokenizer_digest_; }  // "": the format does not say
  // Bytes of the text behind the tokens, for bits per byte. 0: the format does not say.
  int64_t source_bytes() const { return source_bytes_; }
  // 32 hexadecimal digits that stand for the content. HDF5: over header, offsets and checksums of all tokens. Formats
  // without checksums: over header, document index, size and blocks of tokens spread over the file.
  const std::string& digest() const { return digest_; }

  // Tokens [first, first + out.size()). A token not below vocabulary_size() is a DataError with its position.
  void read(int64_t first, std::span<int32_t> out) const;

  // Reads everything and compares with the checksums (HDF5) or the vocabulary alone. DataError names the place.
  virtual void verify() const;

 protected:
  explicit TokenStore(std::string path) : path_(std::move(path)) {}
  virtual void read_tokens(int64_t first, std::span<int32_t> out) const = 0;  // the range is inside the store

  std::string path_;
  int64_t num_tokens_ = 0;
  int64_t vocabulary_size_ = 0;
  int64_t source_bytes_ = 0;
  std::string tokenizer_digest_;
  std::string digest_;
  std::vector<int64_t> document_offsets_;
};

// Recognises the format by its first bytes. `path` names the HDF5 file, the llm.c file, or Megatron's .bin, .idx or
// common prefix. Missing, truncated, corrupt or of another version: StorageError or DataError, one line.
// `vocabulary_size` stands in where the format names none, so that read() refuses tokens that a model does not know.
std::shared_ptr<const TokenStore> open_token_store(const std::string& path, int64_t vocabulary_size = 0);

// DataError when the store says that it was made by another tokenizer.
void check_tokenizer(const TokenStore& store, const std::string& tokenizer_digest);
// DataError when the store may hold tokens that a model of this vocabulary does not know.
void check_vocabulary(const TokenStore& store, int64_t vocabulary_size);

// Offsets start at 0, never fall and end at num_tokens; otherwise a DataError naming `path`.
void check_document_offsets(const std::string& path, const std::vector<int64_t>& offsets, int64_t num_tokens);

}  // namespace deepflow
