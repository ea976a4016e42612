#pragma once

#include "data/bpe_word_counts.h"
#include "data/tokenizer.h"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace deepflow {

// Learns merges from word counts: the most frequent pair of neighbours becomes a new symbol, again and again. Counts
// are kept up to date word by word; a queue with stale entries gives the most frequent pair.
class MergeLearner {
 public:
  // `tokens`: what stands for the ids so far, in the byte alphabet; `byte_ids`: ids of the 256 bytes.
  MergeLearner(const WordCounts& words, std::vector<std::string> tokens, const std::vector<TokenId>& byte_ids);

  // Merges until there are `vocabulary` tokens or no pair occurs `min_frequency` times (at least once).
  void learn(size_t vocabulary, int64_t min_frequency);

  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<std::pair<TokenId, TokenId>>& merges() const { return merges_; }

 private:
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it occurs, or did
  };
  struct Word {
    size_t begin;
    uint32_t length;
    int64_t count;
  };
  struct Candidate {
    int64_t count;
    uint64_t pair;
    bool operator<(const Candidate& o) const { return count != o.count ? count < o.count : pair > o.pair; }
  };

  static uint64_t key(TokenId left, TokenId right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  void change(uint64_t pair, int64_t by, uint32_t word);
  TokenId token_of(const std::string& text);
  void merge(uint64_t pair, TokenId result);
  void merge_in_word(uint32_t w, TokenId left, TokenId right, TokenId result);

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, TokenId> ids_;
  std::vector<std::pair<TokenId, TokenId>> merges_;
  std::vector<TokenId> symbols_;
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair> pairs_;
  std::vector<uint64_t> grown_;  // pairs that the merge at hand made more frequent
  std::vector<Candidate> queue_;
};

}  // namespace deepflow
