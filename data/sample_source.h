#pragma once

#include "data/blend.h"
#include "data/packing.h"
#include "data/token_store.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

struct WeightedStore {
  std::shared_ptr<const TokenStore> store;
  double weight = 1;
};

struct SampleOptions {
  int64_t sequence = 1024;  // T, rows of a sample
  Documents documents = Documents::kSeparate;
  bool shuffle = true;
  uint64_t seed = 0;
};

// The endless order of training samples: a pure function of the options, the weights and the stores' digests, of
// nothing else. Sample i comes from the store that the blend names, as that store's j-th. A store of N tokens is a ring
// cut into N / T windows; j / (N / T) is the epoch, whose own key permutes the windows and, after the first epoch,
// turns the ring so that other cuts are made. Methods are safe with threads.
class SampleSource {
 public:
  // DataError for a store of fewer than T + 1 tokens, or stores of different tokenizers.
  SampleSource(std::vector<WeightedStore> stores, const SampleOptions& options);

  struct Place {
    int store;
    int64_t epoch;
    int64_t first_token;  // T + 1 tokens from here, around the ring
  };
  Place place(int64_t sample) const;
  void read(int64_t sample, int64_t slot, Batch* batch) const;  // into sample `slot` of a batch of T rows each

  const SampleOptions& options() const { return options_; }
  int num_stores() const { return blend_.num_sources(); }
  const TokenStore& store(int i) const { return *stores_[static_cast<size_t>(i)].store; }
  int64_t num_tokens() const;  // of all stores, once
  // Equal digests give equal samples: a checkpoint keeps it beside the position.
  const std::string& digest() const { return digest_; }

 private:
  std::vector<WeightedStore> stores_;
  SampleOptions options_;
  Blend blend_;
  std::string digest_;
};

}  // namespace deepflow
