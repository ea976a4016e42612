#pragma once

#include "data/bpe_added_tokens.h"
#include "data/bpe_model.h"
#include "data/bpe_word_cache.h"
#include "data/pretokenizer.h"
#include "data/tokenizer.h"
#include "data/tokenizer_spec.h"

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace deepflow {

struct TokenizerIdentity {
  std::string json, config_json, digest;
  TokenId bos = kNoToken, eos = kNoToken, pad = kNoToken;
};

// The pipeline of a tokenizer.json with a BPE model: added tokens are cut out, what is between them is normalised, cut
// into words and merged. Stray bytes (no valid UTF-8) are cut out first; each run of them is a word of its own.
class BpeTokenizer final : public Tokenizer {
 public:
  // Throws DataError, beginning with `where`, when the parts do not fit together.
  BpeTokenizer(TokenizerSpec spec, TokenizerIdentity identity, const std::string& where);
  ~BpeTokenizer() override;

  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<TokenId>& out, const EncodeOptions& options) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override;
  std::string token_bytes(TokenId id) const override;
  int64_t vocabulary_size() const override { return static_cast<int64_t>(bytes_.size()); }
  TokenId find(std::string_view token) const override;
  TokenId bos() const override { return identity_.bos; }
  TokenId eos() const override { return identity_.eos; }
  TokenId pad() const override { return identity_.pad; }
  const std::string& digest() const override { return identity_.digest; }
  std::string json() const override { return identity_.json; }
  std::string config_json() const override { return identity_.config_json; }

 private:
  struct Scratch;  // what one thread needs; handed out by lease()
  struct Lease;
  struct Kind {
    bool exists = false, special = false, metaspace = false;
  };

  void fill_token_bytes(const std::string& where);
  std::string plain_bytes(const std::string& token, bool& metaspace) const;
  void encode_text(std::string_view text, bool match_special, bool first, Scratch& scratch,
                   std::vector<TokenId>& out) const;
  void encode_valid(std::string_view text, bool match_special, bool first, bool prepend, Scratch& scratch,
                    std::vector<TokenId>& out) const;
  std::string_view normalize(std::string_view text, bool prepend, Scratch& scratch) const;
  void encode_words(std::string_view text, bool first, Scratch& scratch, std::vector<TokenId>& out) const;

  const TokenizerSpec spec_;
  const TokenizerIdentity identity_;
  const BpeModel model_;
  const PreTokenizer pre_tokenizer_;
  std::unique_ptr<AddedTokenMatcher> raw_added_, normalized_added_;
  std::unordered_map<std::string, TokenId> added_ids_;
  std::vector<std::string> bytes_;  // by id: what it decodes to
  std::vector<Kind> kinds_;
  mutable std::mutex mutex_;  // guards idle_
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace deepflow
