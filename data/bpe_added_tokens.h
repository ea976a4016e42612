#pragma once

#include "data/tokenizer_spec.h"

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deepflow {

// Finds added tokens in text, leftmost first and the longest of those that start at one place, and cuts the text there.
// Immutable. The rules are those of AddedVocabulary::find_matches in Hugging Face tokenizers.
class AddedTokenMatcher {
 public:
  // The tokens with `normalized` as given; their content is what is looked for.
  AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool normalized);

  bool empty() const { return tokens_.empty(); }

  struct Piece {
    std::string_view text;
    TokenId id;  // kNoToken: ordinary text
  };
  // Appends the pieces of `text` in order. `match_special` off: tokens marked special are not cut out.
  void cut(std::string_view text, bool match_special, std::vector<Piece>& out) const;

 private:
  // The longest token that starts at text[at]; null when there is none.
  const AddedToken* longest(std::string_view text, size_t at) const;
  size_t next_start(std::string_view text, size_t from) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<uint64_t, uint32_t> edges_;  // trie: node << 8 | byte -> node; node 0 is the root
  std::vector<int32_t> ends_;                     // by node: index of the token that ends there, or -1
  bool starts_[256] = {};
  int single_start_ = -1;  // the byte that all tokens start with
};

}  // namespace deepflow
