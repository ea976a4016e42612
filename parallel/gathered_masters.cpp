#include "parallel/gathered_masters.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <utility>

namespace deepflow {

GatheredMasters::GatheredMasters(Runtime& runtime, const std::vector<Bucket>& buckets, const ShardMap& shards,
                                 PerDomain<std::shared_ptr<Communicator>> comms, DType compute,
                                 std::function<void(const Bucket&)> given_up)
    : runtime_(runtime),
      buckets_(buckets),
      shards_(shards),
      comms_(std::move(comms)),
      compute_(compute),
      given_up_(std::move(given_up)),
      gathered_(buckets.size()),
      read_exactly_(buckets.size(), compute == DType::kF32) {
  for (const Bucket& bucket : buckets) {
    const int64_t count = shards.counts(bucket.id)[static_cast<size_t>(comms_[bucket.domain]->rank())];
    shards_of_.push_back(Tensor::empty(runtime.memory(), {count}, DType::kF32));
    fill(runtime, shards_of_.back(), 0);
  }
}

// As with gradients: operations under way hold memory of the runtime.
GatheredMasters::~GatheredMasters() {
  for (Gathered& g : gathered_) try {
      if (g.pending) g.pending->wait_host();
    } catch (const CommError&) {
    }
}

int64_t GatheredMasters::bytes_sent() const {
  const Communicator &dense = *comms_[GradientDomain::kDense], &expert = *comms_[GradientDomain::kExpert];
  return dense.bytes().sent + (&expert != &dense ? expert.bytes().sent : 0);
}

bool GatheredMasters::is_rounded(int bucket, Read read) const {
  return read == Read::kRounded && !read_exactly_[static_cast<size_t>(bucket)];
}

void GatheredMasters::gather(int bucket, bool rounded) {
  const auto b = static_cast<size_t>(bucket);
  Tensor mine = shards_of_[b];
  const DType dtype = rounded ? compute_ : DType::kF32;
  if (rounded) {
    mine = Tensor::empty(runtime_.memory(), mine.shape(), dtype);
    copy(runtime_, shards_of_[b], mine);
  }
  Gathered& g = gathered_[b];
  g.value = Tensor::empty(runtime_.memory(), {buckets_[b].num_elements}, dtype);
  g.pending = comms_[buckets_[b].domain]->all_gather(mine, g.value, shards_.counts(bucket), "parameters");
}

void GatheredMasters::give_up(int bucket) {
  Gathered& g = gathered_[static_cast<size_t>(bucket)];
  if (!g.value.defined()) return;
  if (g.pending) g.pending->wait_host();  // it reads the shard, which may be written next
  g = {};
  given_up_(buckets_[static_cast<size_t>(bucket)]);
}

void GatheredMasters::give_up_others(const std::vector<int>& kept) {
  for (const Bucket& bucket : buckets_)
    if (std::find(kept.begin(), kept.end(), bucket.id) == kept.end()) give_up(bucket.id);
}

// Moves along the order, or writes it down.
void GatheredMasters::follow(int bucket) {
  if (!in_step_) return;
  if (follows_) {
    if (at_ < order_.size() && order_[at_] == bucket) return;
    if (at_ + 1 < order_.size() && order_[at_ + 1] == bucket) {
      ++at_;
      return;
    }
    follows_ = false;
    order_.resize(std::min(at_ + 1, order_.size()));  // so far it was right
  }
  if (order_.empty() || order_.back() != bucket) order_.push_back(bucket);
}

Tensor GatheredMasters::use(int bucket, Read read, Stream& stream) {
  Gathered& g = gathered_[static_cast<size_t>(bucket)];
  if (in_step_ && read == Read::kExact) read_exactly_[static_cast<size_t>(bucket)] = true;
  if (read == Read::kExact && g.value.defined() && g.value.dtype() != DType::kF32) give_up(bucket);
  if (bucket != last_) before_last_ = std::exchange(last_, bucket);
  follow(bucket);
  std::vector<int> kept = {bucket};
  if (in_step_ && follows_)
    for (size_t next = at_ + 1; next < order_.size() && next <= at_ + kAhead; ++next) kept.push_back(order_[next]);
  else
    kept.push_back(before_last_);  // two that take turns
  give_up_others(kept);
  for (const int b : kept) {
    const bool here = b < 0 || gathered_[static_cast<size_t>(b)].value.defined();
    if (!here) gather(b, is_rounded(b, b == bucket ? read : Read::kRounded));
  }
  if (g.pending) std::exchange(g.pending, nullptr)->wait(stream);
  return g.value;
}

void GatheredMasters::begin_step(int passes) {
  in_step_ = true;
  follows_ = passes == passes_ && !order_.empty();
  if (!follows_) order_.clear();
  passes_ = passes;
  at_ = 0;
}

void GatheredMasters::end_step() {
  // A step that ended early was another one than was written down.
  if (follows_ && at_ + 1 < order_.size()) order_.resize(at_ + 1);
  in_step_ = false;
  follows_ = false;
  give_up_others({});
  last_ = before_last_ = -1;
}

void GatheredMasters::wait() {
  for (Gathered& g : gathered_)
    if (g.pending) std::exchange(g.pending, nullptr)->wait_host();
}

void GatheredMasters::written() { give_up_others({}); }

void GatheredMasters::gather_ahead() {
  for (size_t i = 0; i < order_.size() && i < kAhead; ++i)
    if (!gathered_[static_cast<size_t>(order_[i])].value.defined())
      gather(order_[i], is_rounded(order_[i], Read::kRounded));
}

}  // namespace deepflow
