#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace deepflow {

// Writes a token store (docs/formats/token_store.md), document after document, in memory that does not grow with the
// text. Nothing is at `path` before finish(); without it the destructor removes what was written. The same documents
// give the same bytes. A full disk is a StorageError.
class TokenStoreWriter {
 public:
  // tokenizer_digest may be "". Tokens are kept in 16 bits when the vocabulary allows it.
  TokenStoreWriter(const std::string& path, int64_t vocabulary_size, const std::string& tokenizer_digest);
  ~TokenStoreWriter();

  // One document with its end token, if it has one; source_bytes: the text behind it. Empty documents are skipped.
  // A token outside the vocabulary is a DataError.
  void append(std::span<const int32_t> document, int64_t source_bytes);
  // Puts the store in place. DataError when it has no tokens.
  void finish();

  int64_t num_tokens() const;
  int64_t num_documents() const;

 private:
  class File;
  std::unique_ptr<File> file_;
};

}  // namespace deepflow
