#pragma once

#include "data/token_store.h"

#include <cstdint>
#include <memory>
#include <string>

namespace deepflow {

// Names and sizes of the format in docs/formats/token_store.md, shared by reader and writer.
namespace token_store_format {
inline constexpr const char* kMagic = "deepflow.tokens";
inline constexpr int64_t kVersion = 1;
inline constexpr int64_t kChunkTokens = int64_t{1} << 20;   // tokens of one chunk and of one checksum
inline constexpr int64_t kChunkOffsets = int64_t{1} << 13;  // document offsets of one chunk
}  // namespace token_store_format

// What the attributes of a store say, without its arrays.
struct TokenStoreHeader {
  int64_t vocabulary_size = 0;
  std::string tokenizer_digest;
  int64_t source_bytes = 0;
  int64_t num_tokens = 0;
  int64_t num_documents = 0;

  std::string canonical() const;  // the bytes that end the digest's input
};

std::shared_ptr<const TokenStore> open_hdf5_token_store(const std::string& path);

}  // namespace deepflow
