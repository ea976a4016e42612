#pragma once

#include "data/tokenizer.h"

#include <string>

namespace deepflow {

// Ids 0 to 255 are the bytes, 256 ends a document (<|endoftext|>). Its tokenizer.json is a byte-level BPE without
// merges, so that Hugging Face tokenizers gives the same ids.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kEndOfDocument = 256;
  static constexpr std::string_view kEndOfDocumentText = "<|endoftext|>";

  ByteTokenizer();

  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<TokenId>& out, const EncodeOptions& options) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override;
  std::string token_bytes(TokenId id) const override;
  int64_t vocabulary_size() const override { return kEndOfDocument + 1; }
  TokenId find(std::string_view token) const override;
  TokenId bos() const override { return kEndOfDocument; }
  TokenId eos() const override { return kEndOfDocument; }
  TokenId pad() const override { return kNoToken; }
  const std::string& digest() const override { return digest_; }
  std::string json() const override { return json_; }
  std::string config_json() const override;

 private:
  std::string json_, digest_;
};

}  // namespace deepflow
