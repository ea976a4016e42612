#pragma once

#include "data/tokenizer.h"

#include <cstdint>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deepflow {

// Remembers the ids of words, one cache per thread. A word of up to 15 bytes that has up to four ids sits in a
// direct-mapped table of 32-byte entries, where a newer word replaces an older one; the others in a map that is emptied
// when full.
class BpeWordCache {
 public:
  BpeWordCache() : entries_(kEntries) {}

  // Appends the ids of `word` and returns true, or returns false and leaves `out` alone. `readable`: end of the memory
  // that may be read.
  bool get(std::string_view word, const char* readable, std::vector<TokenId>& out) {
    if (word.size() > 15) return get_large(word, out);
    load(word, readable);
    const Entry& e = entries_[slot()];
    if (e.low != low_ || e.high != high_) return false;
    if (e.ids[0] == kNoToken) return get_large(word, out);
    const size_t n = out.size();
    out.resize(n + 4);
    memcpy(&out[n], e.ids, sizeof e.ids);
    out.resize(n + e.count());
    return true;
  }

  // Stores what a get that failed just before did not find.
  void put(std::string_view word, const TokenId* ids, size_t count) {
    const bool fits = word.size() <= 15 && count <= 4;
    if (!fits) put_large(word, ids, count);
    if (word.size() > 15) return;
    Entry& e = entries_[slot()];
    e.low = low_;
    e.high = high_;
    for (size_t i = 0; i < 4; ++i) e.ids[i] = fits && i < count ? ids[i] : kNoToken;
  }

 private:
  __extension__ typedef unsigned __int128 Wide;
  static constexpr size_t kEntries = size_t{1} << 17;
  static constexpr size_t kMostLargeBytes = size_t{8} << 20;
  static constexpr size_t kLongestWord = 256;

  struct Entry {
    uint64_t low = 0, high = 0;  // the bytes, then zeros, the length on top; no word has length 0
    TokenId ids[4] = {kNoToken, kNoToken, kNoToken, kNoToken};  // all kNoToken: see the map
    size_t count() const { return ids[1] < 0 ? 1 : ids[2] < 0 ? 2 : ids[3] < 0 ? 3 : 4; }
  };

  void load(std::string_view word, const char* readable) {
    const size_t n = word.size();
    if (word.data() + 16 <= readable) {
      memcpy(&low_, word.data(), 8);
      memcpy(&high_, word.data() + 8, 8);
      if (n < 8) {
        low_ &= ~uint64_t{0} >> (64 - 8 * n);
        high_ = 0;
      } else {
        high_ &= n == 8 ? 0 : ~uint64_t{0} >> (128 - 8 * n);
      }
    } else {
      low_ = high_ = 0;
      memcpy(&low_, word.data(), n < 8 ? n : 8);
      if (n > 8) memcpy(&high_, word.data() + 8, n - 8);
    }
    high_ |= uint64_t{n} << 56;
  }

  size_t slot() const {
    const auto product = static_cast<Wide>(low_ ^ 0x9e3779b97f4a7c15u) * (high_ ^ 0xe7037ed1a0b428dbu);
    const auto mixed = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    return mixed & (kEntries - 1);
  }

  bool get_large(std::string_view word, std::vector<TokenId>& out) const {
    const auto it = large_.find(word);
    if (it == large_.end()) return false;
    out.insert(out.end(), it->second.begin(), it->second.end());
    return true;
  }

  void put_large(std::string_view word, const TokenId* ids, size_t count) {
    if (word.size() > kLongestWord) return;
    if (large_bytes_ > kMostLargeBytes) {
      large_.clear();
      large_bytes_ = 0;
    }
    large_.emplace(std::string(word), std::vector<TokenId>(ids, ids + count));
    large_bytes_ += 128 + word.size() + 4 * count;
  }

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::vector<TokenId>, Hash, std::equal_to<>> large_;
  size_t large_bytes_ = 0;
  uint64_t low_ = 0, high_ = 0;
};

}  // namespace deepflow
