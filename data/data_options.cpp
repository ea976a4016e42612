#include "data/data_options.h"

#include "core/option.h"

namespace deepflow {
namespace {

// Reading this much from memory or a local disk is over before a user notices; a damaged store is better told at once.
constexpr int64_t kVerifiedAlways = int64_t{1} << 26;

std::shared_ptr<const TokenStore> open_checked(const std::string& path, const DataOptions& options,
                                               const std::string& tokenizer_digest, int64_t vocabulary_size) {
  auto store = open_token_store(path, vocabulary_size);
  check_tokenizer(*store, tokenizer_digest);
  check_vocabulary(*store, vocabulary_size);
  if (options.verify || store->num_tokens() <= kVerifiedAlways) store->verify();
  return store;
}

}  // namespace

void declare(OptionGroup& group, StoreOptions& options) {
  group.add("store", options.store).help("token store: HDF5, Megatron .bin/.idx or llm.c .bin").required();
  group.add("weight", options.weight).help("share of the samples, relative to the other stores").above(0);
  group.short_form("store");
}

void declare(OptionGroup& group, DataOptions& options) {
  group.add("train", options.train).help("token stores to train on, blended by their weights").length(1, 100000);
  group.add("heldout", options.heldout).help("token store to evaluate on").when_absent("no evaluation");
  group.add("sequence", options.sequence).help("length of a sample").unit("tokens").range(1, 1 << 24);
  group.add("documents", options.documents)
      .help("whether the documents in a sample see each other: attention and labels stop at their bounds, or not")
      .values({{"separate", Documents::kSeparate}, {"joined", Documents::kJoined}});
  group.add("shuffle", options.shuffle)
      .help("draw samples in a new random order every epoch, instead of in that of the text");
  group.add("seed", options.seed).help("of the shuffle").at_least(0);
  group.add("tokenizer", options.tokenizer)
      .help("tokenizer.json, or its folder, that made the stores; goes into the trained model's folder")
      .when_absent("none");
  group.add("prefetch", options.prefetch).help("steps that are read ahead").unit("steps").range(1, 1000);
  group.add("verify", options.verify)
      .help("compare all stores with their checksums at the start; small ones always are");
}

std::shared_ptr<const SampleSource> open_train_samples(const DataOptions& options, const std::string& tokenizer_digest,
                                                       int64_t vocabulary_size) {
  std::vector<WeightedStore> stores;
  for (const StoreOptions& entry : options.train) {
    stores.push_back({open_checked(entry.store, options, tokenizer_digest, vocabulary_size), entry.weight});
  }
  return std::make_shared<SampleSource>(
      std::move(stores),
      SampleOptions{options.sequence, options.documents, options.shuffle, static_cast<uint64_t>(options.seed)});
}

std::unique_ptr<HeldOut> open_heldout(const DataOptions& options, const std::string& tokenizer_digest,
                                      int64_t vocabulary_size) {
  if (options.heldout.empty()) return nullptr;
  auto store = open_checked(options.heldout, options, tokenizer_digest, vocabulary_size);
  return std::make_unique<HeldOut>(std::move(store), options.sequence, options.documents);
}

}  // namespace deepflow
