#include "data/token_store.h"

#include "core/error.h"
#include "data/hdf5_token_store.h"
#include "data/llmc_store.h"
#include "data/megatron_store.h"
#include "data/token_store_file.h"

#include <algorithm>
#include <cstring>

namespace deepflow {
namespace {

// Digests are shown short, as a user compares them.
std::string short_digest(const std::string& digest) { return digest.size() > 12 ? digest.substr(0, 12) : digest; }

[[noreturn]] void throw_token_out_of_range(const TokenStore& store, int64_t position, int64_t token) {
  throw DataError(
      "{}: token {} at position {} is not below the vocabulary of {}; the store is damaged or of another tokenizer",
      store.path(), token, position, store.vocabulary_size());
}

}  // namespace

void TokenStore::read(int64_t first, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  DF_ASSERT(first >= 0 && first <= num_tokens_ - count, "tokens [{}, {}) of {}", first, first + count, num_tokens_);
  if (out.empty()) return;
  read_tokens(first, out);
  // As unsigned, so that negative ids count as too large.
  const uint32_t limit = vocabulary_size_ > 0 ? static_cast<uint32_t>(vocabulary_size_) : uint32_t{1} << 31;
  uint32_t largest = 0;
  for (const int32_t token : out) largest = std::max(largest, static_cast<uint32_t>(token));
  if (largest < limit) return;
  for (int64_t i = 0; i < count; ++i) {
    if (static_cast<uint32_t>(out[i]) >= limit) throw_token_out_of_range(*this, first + i, out[i]);
  }
}

void TokenStore::verify() const {
  std::vector<int32_t> block(int64_t{1} << 20);
  for (int64_t first = 0; first < num_tokens_; first += static_cast<int64_t>(block.size())) {
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(block.size()), num_tokens_ - first);
    read(first, std::span(block).first(count));
  }
}

std::shared_ptr<const TokenStore> open_token_store(const std::string& path, int64_t vocabulary_size) {
  if (const std::string prefix = megatron_prefix(path); !prefix.empty()) {
    return open_megatron_store(prefix, vocabulary_size);
  }
  TokenStoreFile file(path);
  unsigned char head[8] = {};
  file.read(0, head, std::min<int64_t>(file.size(), sizeof(head)));
  if (std::memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0) return open_hdf5_token_store(path);
  if (is_llmc_head(head)) return open_llmc_store(path);
  throw DataError(
      "{}: not a token store: neither HDF5 nor llm.c, and no Megatron .idx beside it; make one with: deepflow data "
      "tokenize",
      path);
}

void check_tokenizer(const TokenStore& store, const std::string& tokenizer_digest) {
  if (store.tokenizer_digest().empty() || tokenizer_digest.empty()) return;
  if (store.tokenizer_digest() == tokenizer_digest) return;
  throw DataError("{} was tokenised with tokenizer {} but the recipe's is {}; run: deepflow data tokenize",
                  store.path(), short_digest(store.tokenizer_digest()), short_digest(tokenizer_digest));
}

void check_vocabulary(const TokenStore& store, int64_t vocabulary_size) {
  if (store.vocabulary_size() <= vocabulary_size) return;
  throw DataError("{}: its vocabulary has {} tokens but the model's only {}; use the tokenizer that made the store",
                  store.path(), store.vocabulary_size(), vocabulary_size);
}

void check_document_offsets(const std::string& path, const std::vector<int64_t>& offsets, int64_t num_tokens) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != num_tokens) {
    throw DataError("{}: document offsets must run from 0 to {}; the store is damaged, make it again", path,
                    num_tokens);
  }
  const auto falls = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (falls == offsets.end()) return;
  throw DataError("{}: document {} ends at token {}, before its start at {}; the store is damaged, make it again", path,
                  falls - offsets.begin(), *(falls + 1), *falls);
}

}  // namespace deepflow
