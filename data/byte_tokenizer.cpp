#include "data/byte_tokenizer.h"

#include "core/error.h"
#include "data/bpe_model.h"
#include "data/tokenizer_json.h"

#include <algorithm>

namespace deepflow {

ByteTokenizer::ByteTokenizer() {
  TokenizerSpec spec;
  spec.byte_level = true;
  for (int b = 0; b < 256; ++b)
    spec.model.vocabulary.emplace_back(bytes_to_alphabet(std::string(1, static_cast<char>(b))), b);
  AddedToken end;
  end.id = kEndOfDocument;
  end.content = kEndOfDocumentText;
  end.special = true;
  spec.added.push_back(end);
  json_ = write_tokenizer_json(spec);
  digest_ = tokenizer_digest(nlohmann::json::parse(json_));
}

void ByteTokenizer::encode(std::string_view text, std::vector<TokenId>& out, const EncodeOptions& options) const {
  out.reserve(out.size() + text.size());
  while (!text.empty()) {
    const size_t hit = options.match_special ? std::min(text.find(kEndOfDocumentText), text.size()) : text.size();
    for (const char b : text.substr(0, hit)) out.push_back(static_cast<uint8_t>(b));
    if (hit == text.size()) return;
    out.push_back(kEndOfDocument);
    text.remove_prefix(hit + kEndOfDocumentText.size());
  }
}

std::string ByteTokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  text.reserve(ids.size());
  for (const TokenId id : ids)
    if (id != kEndOfDocument || !skip_special) text += token_bytes(id);
  return text;
}

std::string ByteTokenizer::token_bytes(TokenId id) const {
  if (id < 0 || id > kEndOfDocument)
    throw DataError("token id {} is outside the vocabulary of {}", id, vocabulary_size());
  return id == kEndOfDocument ? std::string(kEndOfDocumentText) : std::string(1, static_cast<char>(id));
}

TokenId ByteTokenizer::find(std::string_view token) const {
  if (token == kEndOfDocumentText) return kEndOfDocument;
  for (TokenId b = 0; b < 256; ++b)
    if (token == bytes_to_alphabet(std::string(1, static_cast<char>(b)))) return b;
  return kNoToken;
}

std::string ByteTokenizer::config_json() const { return write_tokenizer_config(std::string(kEndOfDocumentText)); }

}  // namespace deepflow
