#pragma once

#include "data/packing.h"
#include "data/token_store.h"

#include <cstdint>
#include <memory>

namespace deepflow {

// A store read once, front to back: window w has the inputs [w*T, (w+1)*T) and the tokens after them as labels, so that
// every token but the first is a label once (separate documents: but the first of each). The last window is padded with
// masked rows.
class HeldOut {
 public:
  HeldOut(std::shared_ptr<const TokenStore> store, int64_t sequence, Documents documents);

  const TokenStore& store() const { return *store_; }
  int64_t sequence() const { return sequence_; }
  int64_t num_windows() const;
  // Windows [first, first + count); those beyond the last are masked throughout, so that ranks may take equal shares.
  Batch read(int64_t first, int64_t count) const;

  int64_t num_labels() const { return store_->num_tokens() - num_unpredicted(); }  // over all windows
  int64_t num_unpredicted() const;                                                 // tokens that are no label

  // Bits per byte of the store's text, given the summed loss (nats) of all labels: the code length of the whole store,
  // in which a token that is no label costs log2(vocabulary_size), over its source bytes. DataError when the store does
  // not say how many bytes of text it came from.
  double bits_per_byte(double loss_sum, int64_t vocabulary_size) const;

 private:
  std::shared_ptr<const TokenStore> store_;
  int64_t sequence_;
  Documents documents_;
};

}  // namespace deepflow
