#include "data/bpe_word_counts.h"

#include "core/error.h"

#include <xxhash.h>

namespace deepflow {

void WordCounts::add(std::string_view word, int64_t count) {
  const uint64_t hash = XXH3_64bits(word.data(), word.size());
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  for (; slots_[i] != 0; i = (i + 1) & mask) {
    Word& w = words_[slots_[i] - 1];
    if (w.hash == hash && this->word(slots_[i] - 1) == word) {
      w.count += count;
      return;
    }
  }
  DF_ASSERT(words_.size() < UINT32_MAX - 1, "{} different words", words_.size());
  words_.push_back({text_.size(), word.size(), hash, count});
  text_.append(word);
  slots_[i] = static_cast<uint32_t>(words_.size());
  if (words_.size() * 2 > slots_.size()) grow();
}

void WordCounts::grow() {
  slots_.assign(slots_.size() * 4, 0);
  const size_t mask = slots_.size() - 1;
  for (size_t w = 0; w < words_.size(); ++w) {
    size_t i = words_[w].hash & mask;
    while (slots_[i] != 0) i = (i + 1) & mask;
    slots_[i] = static_cast<uint32_t>(w + 1);
  }
}

}  // namespace deepflow
