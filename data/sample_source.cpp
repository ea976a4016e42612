#include "data/sample_source.h"

#include "core/error.h"
#include "data/shuffle.h"
#include "data/token_store_file.h"

#include <algorithm>

namespace deepflow {
namespace {

std::vector<double> weights_of(const std::vector<WeightedStore>& stores) {
  std::vector<double> weights;
  for (const WeightedStore& store : stores) weights.push_back(store.weight);
  return weights;
}

}  // namespace

SampleSource::SampleSource(std::vector<WeightedStore> stores, const SampleOptions& options)
    : stores_(std::move(stores)), options_(options), blend_(weights_of(stores_)) {
  DF_ASSERT(options.sequence > 0, "sequence of {}", options.sequence);
  std::string recipe =
      fmt::format("samples 1\nsequence {}\ndocuments {}\nshuffle {}\nseed {}\n", options.sequence,
                  options.documents == Documents::kSeparate ? "separate" : "joined", options.shuffle, options.seed);
  const TokenStore* named = nullptr;
  for (const WeightedStore& entry : stores_) {
    const TokenStore& store = *entry.store;
    if (store.num_tokens() <= options.sequence) {
      throw DataError(
          "{}: {} tokens, fewer than one sample of {} and its last label; use more text or a smaller data.sequence",
          store.path(), store.num_tokens(), options.sequence);
    }
    if (named != nullptr) check_tokenizer(store, named->tokenizer_digest());
    if (!store.tokenizer_digest().empty()) named = &store;
    recipe += fmt::format("store {} {}\n", store.digest(), entry.weight);
  }
  digest_ = digest_of(recipe);
}

int64_t SampleSource::num_tokens() const {
  int64_t total = 0;
  for (const WeightedStore& entry : stores_) total += entry.store->num_tokens();
  return total;
}

SampleSource::Place SampleSource::place(int64_t sample) const {
  const Blend::Place chosen = blend_.place(sample);
  const int64_t num_tokens = store(chosen.source).num_tokens();
  const int64_t num_windows = num_tokens / options_.sequence;
  const int64_t epoch = chosen.index / num_windows;
  const int64_t window = chosen.index % num_windows;
  if (!options_.shuffle) return {chosen.source, epoch, window * options_.sequence};
  const uint64_t key = shuffle_key(options_.seed, static_cast<uint64_t>(chosen.source), static_cast<uint64_t>(epoch));
  const Permutation order(static_cast<uint64_t>(num_windows), key);
  const auto turned = epoch == 0 ? 0 : static_cast<int64_t>(key % static_cast<uint64_t>(num_tokens));
  const auto drawn = static_cast<int64_t>(order(static_cast<uint64_t>(window)));
  return {chosen.source, epoch, (turned + drawn * options_.sequence) % num_tokens};
}

void SampleSource::read(int64_t sample, int64_t slot, Batch* batch) const {
  const Place at = place(sample);
  const TokenStore& from = store(at.store);
  const int64_t T = options_.sequence;
  DF_ASSERT(batch->sequence == T, "a batch of {} rows a sample, expected {}", batch->sequence, T);
  std::vector<int32_t> window(static_cast<size_t>(T + 1));
  const int64_t before_end = std::min(T + 1, from.num_tokens() - at.first_token);
  const auto cut = std::span(window).subspan(static_cast<size_t>(before_end));
  from.read(at.first_token, std::span(window).first(static_cast<size_t>(before_end)));
  from.read(0, cut);
  std::vector<int64_t> starts;
  if (options_.documents == Documents::kSeparate) {
    find_document_starts(from.document_offsets(), at.first_token, before_end, 0, &starts);
    find_document_starts(from.document_offsets(), 0, T + 1 - before_end, before_end, &starts);
  }
  pack_sample(window, starts, options_.documents, T, slot, batch);
}

}  // namespace deepflow
