#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// How often each word occurs: words lie one after the other in one buffer, found through a table with open addressing.
class WordCounts {
 public:
  WordCounts() : slots_(1 << 12) {}

  void add(std::string_view word, int64_t count);

  size_t size() const { return words_.size(); }
  std::string_view word(size_t i) const { return {text_.data() + words_[i].offset, words_[i].length}; }
  int64_t count(size_t i) const { return words_[i].count; }

 private:
  struct Word {
    size_t offset, length;
    uint64_t hash;
    int64_t count;
  };
  void grow();

  std::string text_;
  std::vector<Word> words_;
  std::vector<uint32_t> slots_;  // index of a word + 1, 0: empty
};

}  // namespace deepflow
