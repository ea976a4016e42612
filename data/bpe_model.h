#pragma once

#include "data/tokenizer_spec.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deepflow {

// The byte alphabet of GPT-2: every byte as one printable character, in which byte-level tokens are written.
// https://github.com/openai/gpt-2/blob/master/src/encoder.py
std::string bytes_to_alphabet(std::string_view bytes);
// The other way; false when `token` has a character outside the alphabet.
bool alphabet_to_bytes(std::string_view token, std::string& bytes);

// Byte pair encoding (Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016, section 3.2)
// of one word: the pair with the lowest rank is merged first, the leftmost of equals. Immutable.
class BpeModel {
 public:
  struct Scratch {
    struct Symbol {
      TokenId id;
      int32_t previous, next;  // -1 at the ends; next == -2: merged away
    };
    std::vector<TokenId> ids;
    std::vector<uint64_t> merges;
    std::vector<Symbol> symbols;
    std::vector<std::array<uint64_t, 2>> queue;
  };

  // Throws DataError, beginning with `where`, when merges and vocabulary do not fit together.
  BpeModel(const BpeSpec& spec, bool byte_level, const std::string& where);

  // Appends the ids of one word. Byte-level: any bytes. Else valid UTF-8.
  void encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const;
  // Appends the ids of bytes that are no UTF-8, for a model that is not byte-level: their <0xAB> tokens, else the
  // unknown token.
  void encode_stray(std::string_view bytes, std::vector<TokenId>& out) const;

  // What `id` is written as in the file, or null.
  const std::string* token(TokenId id) const;
  TokenId find(std::string_view token) const;
  TokenId size() const { return static_cast<TokenId>(tokens_.size()); }  // highest id + 1

 private:
  struct Merge {
    uint64_t pair;  // left id << 32 | right id
    uint32_t rank;
    TokenId result;  // kNoToken: an empty slot
  };

  void add_vocabulary(const BpeSpec& spec, const std::string& where);
  void add_merges(const BpeSpec& spec, const std::string& where);
  void insert(uint64_t pair, uint32_t rank, TokenId result);
  const Merge* merge_of(TokenId left, TokenId right) const {
    const uint64_t pair = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
    for (size_t i = slot(pair);; i = (i + 1) & mask_) {
      if (merges_[i].pair == pair && merges_[i].result != kNoToken) return &merges_[i];
      if (merges_[i].result == kNoToken) return nullptr;
    }
  }
  size_t slot(uint64_t pair) const { return pair * 0x9e3779b97f4a7c15u >> shift_; }

  void split_bytes(std::string_view word, std::vector<TokenId>& ids) const;
  void split_characters(std::string_view word, std::vector<TokenId>& ids) const;
  void merge_short(std::vector<TokenId>& ids, std::vector<uint64_t>& ranks) const;
  void merge_long(Scratch& scratch) const;

  bool byte_level_, fuse_unknown_, byte_fallback_, ignore_merges_;
  TokenId unknown_ = kNoToken;
  std::vector<std::string> tokens_;  // by id; "" where there is none
  std::vector<bool> present_;
  std::unordered_map<std::string_view, TokenId> ids_;     // by the written form
  std::unordered_map<std::string, TokenId> whole_words_;  // by bytes; only with ignore_merges
  std::array<TokenId, 256> byte_ids_{};                   // byte-level: of a byte; else of <0xAB>
  std::vector<Merge> merges_;                             // open addressing
  size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace deepflow
