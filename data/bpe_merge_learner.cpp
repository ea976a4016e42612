#include "data/bpe_merge_learner.h"

#include <algorithm>

namespace deepflow {

MergeLearner::MergeLearner(const WordCounts& words, std::vector<std::string> tokens,
                           const std::vector<TokenId>& byte_ids)
    : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) ids_.emplace(tokens_[i], static_cast<TokenId>(i));
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view text = words.word(i);
    if (text.size() < 2) continue;
    words_.push_back({symbols_.size(), static_cast<uint32_t>(text.size()), words.count(i)});
    for (const char b : text) symbols_.push_back(byte_ids[static_cast<uint8_t>(b)]);
  }
  for (uint32_t w = 0; w < words_.size(); ++w) {
    const TokenId* s = &symbols_[words_[w].begin];
    for (uint32_t i = 0; i + 1 < words_[w].length; ++i) change(key(s[i], s[i + 1]), words_[w].count, w);
  }
  grown_.clear();
  for (const auto& [pair, about] : pairs_) queue_.push_back({about.count, pair});
  std::make_heap(queue_.begin(), queue_.end());
}

void MergeLearner::change(uint64_t pair, int64_t by, uint32_t word) {
  Pair& p = pairs_[pair];
  p.count += by;
  if (by < 0) return;
  if (p.words.empty() || p.words.back() != word) p.words.push_back(word);
  grown_.push_back(pair);
}

// Two ways to build one text share a token.
TokenId MergeLearner::token_of(const std::string& text) {
  const auto [it, fresh] = ids_.emplace(text, static_cast<TokenId>(tokens_.size()));
  if (fresh) tokens_.push_back(text);
  return it->second;
}

void MergeLearner::learn(size_t vocabulary, int64_t min_frequency) {
  while (tokens_.size() < vocabulary && !queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end());
    Candidate top = queue_.back();
    queue_.pop_back();
    const int64_t count = pairs_[top.pair].count;
    if (top.count != count) {
      if (count <= 0) continue;
      top.count = count;
      queue_.push_back(top);
      std::push_heap(queue_.begin(), queue_.end());
      continue;
    }
    if (count < std::max<int64_t>(1, min_frequency)) break;
    const auto left = static_cast<TokenId>(top.pair >> 32), right = static_cast<TokenId>(top.pair & 0xffffffffu);
    const TokenId result = token_of(tokens_[static_cast<size_t>(left)] + tokens_[static_cast<size_t>(right)]);
    merges_.emplace_back(left, right);
    merge(top.pair, result);
  }
}

void MergeLearner::merge(uint64_t pair, TokenId result) {
  const auto left = static_cast<TokenId>(pair >> 32), right = static_cast<TokenId>(pair & 0xffffffffu);
  std::vector<uint32_t> where = std::move(pairs_[pair].words);
  pairs_.erase(pair);
  std::sort(where.begin(), where.end());
  where.erase(std::unique(where.begin(), where.end()), where.end());
  grown_.clear();
  for (const uint32_t w : where) merge_in_word(w, left, right, result);
  pairs_.erase(pair);
  std::sort(grown_.begin(), grown_.end());
  grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
  for (const uint64_t p : grown_) {
    const auto it = pairs_.find(p);
    if (it == pairs_.end() || it->second.count <= 0) continue;
    queue_.push_back({it->second.count, p});
    std::push_heap(queue_.begin(), queue_.end());
  }
}

void MergeLearner::merge_in_word(uint32_t w, TokenId left, TokenId right, TokenId result) {
  Word& word = words_[w];
  TokenId* s = &symbols_[word.begin];
  uint32_t out = 0;
  for (uint32_t i = 0; i < word.length; ++i, ++out) {
    if (i + 1 == word.length || s[i] != left || s[i + 1] != right) {
      s[out] = s[i];
      continue;
    }
    if (out > 0) {
      change(key(s[out - 1], left), -word.count, w);
      change(key(s[out - 1], result), word.count, w);
    }
    if (i + 2 < word.length) {
      change(key(right, s[i + 2]), -word.count, w);
      change(key(result, s[i + 2]), word.count, w);
    }
    s[out] = result;
    ++i;
  }
  word.length = out;
}

}  // namespace deepflow
