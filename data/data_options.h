#pragma once

#include "data/heldout.h"
#include "data/sample_source.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

class OptionGroup;

struct StoreOptions {
  std::string store;  // what open_token_store() takes
  double weight = 1;
};

// The recipe's `data` section.
struct DataOptions {
  std::vector<StoreOptions> train;
  std::string heldout;  // "": no evaluation
  int64_t sequence = 1024;
  Documents documents = Documents::kSeparate;
  bool shuffle = true;
  int64_t seed = 0;
  std::string tokenizer;  // tokenizer.json or its folder; "": none
  int prefetch = 4;
  bool verify = false;
};

void declare(OptionGroup& group, StoreOptions& options);
void declare(OptionGroup& group, DataOptions& options);

// Opens what the recipe names and checks it against the tokenizer ("" when there is none) and the model's vocabulary.
std::shared_ptr<const SampleSource> open_train_samples(const DataOptions& options, const std::string& tokenizer_digest,
                                                       int64_t vocabulary_size);
// Null when the recipe names no held-out store.
std::unique_ptr<HeldOut> open_heldout(const DataOptions& options, const std::string& tokenizer_digest,
                                      int64_t vocabulary_size);

}  // namespace deepflow
