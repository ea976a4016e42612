#include "data/heldout.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>

namespace deepflow {

HeldOut::HeldOut(std::shared_ptr<const TokenStore> store, int64_t sequence, Documents documents)
    : store_(std::move(store)), sequence_(sequence), documents_(documents) {
  DF_ASSERT(sequence > 0, "sequence of {}", sequence);
  if (store_->num_tokens() < 2) {
    throw DataError("{}: {} tokens, held-out text needs at least 2", store_->path(), store_->num_tokens());
  }
}

int64_t HeldOut::num_windows() const { return (store_->num_tokens() - 1 + sequence_ - 1) / sequence_; }

int64_t HeldOut::num_unpredicted() const {
  if (documents_ == Documents::kJoined) return 1;
  const auto& offsets = store_->document_offsets();
  int64_t not_empty = 0;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) not_empty += offsets[d + 1] > offsets[d];
  return not_empty;
}

Batch HeldOut::read(int64_t first, int64_t count) const {
  Batch batch;
  batch.first_sample = first;
  batch.resize(count, sequence_);
  std::vector<int32_t> window(static_cast<size_t>(sequence_ + 1));
  std::vector<int64_t> starts;
  for (int64_t slot = 0; slot < count; ++slot) {
    const int64_t begin = (first + slot) * sequence_;
    const int64_t valid = std::clamp<int64_t>(store_->num_tokens() - 1 - begin, 0, sequence_);
    starts.clear();
    if (valid > 0) {
      store_->read(begin, std::span(window).first(static_cast<size_t>(valid + 1)));
      if (documents_ == Documents::kSeparate) {
        find_document_starts(store_->document_offsets(), begin, valid + 1, 0, &starts);
      }
    }
    pack_sample(window, starts, documents_, valid, slot, &batch);
  }
  return batch;
}

double HeldOut::bits_per_byte(double loss_sum, int64_t vocabulary_size) const {
  if (store_->source_bytes() <= 0) {
    throw DataError(
        "{}: does not say how many bytes of text it came from, which bits per byte need; make it with: deepflow data "
        "tokenize",
        store_->path());
  }
  const double bits = loss_sum / std::log(2.0) +
                      static_cast<double>(num_unpredicted()) * std::log2(static_cast<double>(vocabulary_size));
  return bits / static_cast<double>(store_->source_bytes());
}

}  // namespace deepflow
