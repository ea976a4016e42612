#include "parallel/gradient_buffers.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <utility>

namespace deepflow {
namespace {

constexpr size_t kArrivalsUnderWay = 2;  // buckets whose memory waits for the exchange while backward fills another

}  // namespace

GradientBuffers::GradientBuffers(Runtime& runtime, std::vector<Bucket>& buckets, const ShardMap& shards,
                                 PerDomain<int> ranks, bool sharded, bool alone)
    : runtime_(runtime), buckets_(buckets), shards_(shards), ranks_(ranks), sharded_(sharded), alone_(alone) {
  progress_.resize(buckets.size());
  for (const Bucket& bucket : buckets)
    for (size_t i = 0; i < bucket.packs.size(); ++i) {
      const auto id = static_cast<size_t>(bucket.packs[i]->id);
      if (packs_.size() <= id) packs_.resize(id + 1);
      packs_[id].bucket = bucket.id;
      packs_[id].offset = bucket.offsets[i];
    }
}

// Operations under way hold memory of the runtime, which ends after this; errors have been or will be told by others.
GradientBuffers::~GradientBuffers() {
  std::vector<WorkPtr> works;
  for (BucketState& p : progress_) {
    works.insert(works.end(), p.partial_sums.begin(), p.partial_sums.end());
    works.insert(works.end(), {p.reducing, p.replicating});
  }
  for (Arrival& a : arrivals_) works.push_back(a.work);
  for (const WorkPtr& work : works) try {
      if (work) work->wait_host();
    } catch (const CommError&) {
    }
}

GradientBuffers::PackState& GradientBuffers::state(const Pack& pack) {
  DF_ASSERT(pack.local && static_cast<size_t>(pack.id) < packs_.size(), "{} is not on this rank", pack.name);
  return packs_[static_cast<size_t>(pack.id)];
}

void GradientBuffers::begin_step(int passes, Exchange* exchange) {
  DF_ASSERT(exchange || !sharded_);
  passes_ = passes;
  exchange_ = exchange;
  next_bucket_ = next_partial_ = 0;
  for (PackState& s : packs_) {
    s.pending = s.total = 0;
    s.square_sum = 0;
  }
  for (Bucket& bucket : buckets_) {
    bucket.grad = {};
    progress(bucket).shard = {};
    progress(bucket).sends = 0;
    progress(bucket).incomplete_packs = static_cast<int>(bucket.packs.size());
  }
}

void GradientBuffers::ensure_memory(Bucket& bucket) {
  if (bucket.grad.defined()) return;
  bucket.grad = Tensor::empty(runtime_.memory(), {bucket.num_elements}, DType::kF32);
  // The gaps between packs; gradients themselves are overwritten by the first contribution.
  for (size_t i = 0; i < bucket.packs.size(); ++i) {
    const int64_t end = i + 1 < bucket.packs.size() ? bucket.offsets[i + 1] : bucket.num_elements;
    float* values = bucket.grad.data<float>();
    std::fill(values + bucket.offsets[i] + bucket.packs[i]->num_elements(), values + end, 0.0f);
  }
}

GradientTarget GradientBuffers::gradient(const Pack& pack) {
  const PackState& s = state(pack);
  Bucket& bucket = buckets_[static_cast<size_t>(s.bucket)];
  ensure_memory(bucket);
  return {bucket.grad.flat_range(s.offset, s.offset + pack.num_elements()).view({pack.physical_rows, pack.cols}),
          s.pending > 0};
}

void GradientBuffers::contributed(const Pack& pack) {
  PackState& s = state(pack);
  Bucket& bucket = buckets_[static_cast<size_t>(s.bucket)];
  const int all = pack.uses_per_pass * passes_;
  ++s.total;
  DF_ASSERT(s.total <= all, "{} got more gradients than the {} it expects", pack.name, all);
  if (++s.pending != (goes_every_pass(bucket) ? pack.uses_per_pass : all)) return;
  if (is_final()) s.square_sum = sum_squares(runtime_, gradient(pack).value);
  if (--progress(bucket).incomplete_packs == 0) complete(bucket);
}

void GradientBuffers::complete(Bucket& bucket) {
  if (goes_every_pass(bucket))
    send(bucket);
  else if (!bucket.partial.empty())
    sum_complete_partial_buckets();
  else
    send_complete_buckets();
}

void GradientBuffers::sum_complete_partial_buckets() {
  for (; next_partial_ < buckets_.size(); ++next_partial_) {
    const Bucket& bucket = buckets_[next_partial_];
    if (bucket.partial.empty()) continue;
    if (progress(bucket).incomplete_packs > 0) return;
    for (const PartialRange& r : bucket.partial)
      progress(bucket).partial_sums.push_back(
          r.comm->all_reduce(bucket.grad.flat_range(r.begin, r.end), ReduceOp::kSum, "partial gradients"));
  }
}

void GradientBuffers::send_complete_buckets() {
  for (; next_bucket_ < buckets_.size(); ++next_bucket_) {
    Bucket& bucket = buckets_[next_bucket_];
    if (goes_every_pass(bucket) || !bucket.partial.empty()) continue;
    if (progress(bucket).incomplete_packs > 0) return;
    send(bucket);
  }
}

void GradientBuffers::send(Bucket& bucket) {
  if (sharded_)
    send_shards(bucket);
  else if (exchange_)
    progress(bucket).reducing = exchange_->reduce(bucket, {});
}

void GradientBuffers::send_shards(Bucket& bucket) {
  BucketState& p = progress(bucket);
  Arrival arrival{bucket.id, {}, nullptr};
  Tensor mine;
  if (shards_.num_ranks(bucket.domain) == 1) {  // nobody to share with: the gradient itself is the shard
    (p.sends++ > 0 ? arrival.to_add : p.shard) = bucket.grad;
  } else if (p.sends++ > 0) {
    mine = arrival.to_add = bucket.grad.flat_range(shard_begin(bucket), shard_begin(bucket) + shard_size(bucket));
  } else {
    mine = p.shard = Tensor::empty(runtime_.memory(), {shard_size(bucket)}, DType::kF32);
  }
  if (mine.defined()) arrival.work = exchange_->reduce(bucket, mine);
  arrivals_.push_back(std::move(arrival));
  bucket.grad = {};
  for (const Pack* pack : bucket.packs) state(*pack).pending = 0;
  p.incomplete_packs = static_cast<int>(bucket.packs.size());
  if (arrivals_.size() > kArrivalsUnderWay) add_next_arrival();
}

void GradientBuffers::add_next_arrival() {
  Arrival arrival = std::move(arrivals_.front());
  arrivals_.pop_front();
  if (arrival.work) arrival.work->wait_host();
  if (arrival.to_add.defined())
    add_into(runtime_, progress_[static_cast<size_t>(arrival.bucket)].shard, arrival.to_add);
}

void GradientBuffers::finish(Stream& stream) {
  for (Bucket& bucket : buckets_) {
    if (goes_every_pass(bucket) && progress(bucket).sends > 0 && !bucket.grad.defined()) continue;
    ensure_memory(bucket);
    for (const Pack* pack : bucket.packs)
      if (state(*pack).pending == 0) {
        Tensor zero = gradient(*pack).value;
        fill(runtime_, zero, 0);
      }
    progress(bucket).incomplete_packs = 0;
    if (goes_every_pass(bucket)) send(bucket);
  }
  send_complete_buckets();
  sum_complete_partial_buckets();
  for (Bucket& bucket : buckets_) {
    if (bucket.partial.empty()) continue;
    for (const WorkPtr& work : progress(bucket).partial_sums) work->wait(stream);
    progress(bucket).partial_sums.clear();
    send(bucket);
  }
  while (!arrivals_.empty()) add_next_arrival();
  for (Bucket& bucket : buckets_) {
    BucketState& p = progress(bucket);
    if (p.reducing) std::exchange(p.reducing, nullptr)->wait(stream);
    if (exchange_) p.replicating = exchange_->reduce_replicas(bucket, p.shard);
  }
  for (BucketState& p : progress_)
    if (p.replicating) std::exchange(p.replicating, nullptr)->wait(stream);
}

Tensor GradientBuffers::of(const Parameter& p) {
  Bucket& bucket = buckets_[static_cast<size_t>(state(*p.pack).bucket)];
  DF_ASSERT(bucket.grad.defined(), "no gradient of {} here", p.spec.name);
  const int64_t begin = bucket.offset_of(p);
  return bucket.grad.flat_range(begin, begin + p.local_shape.num_elements()).view(p.local_shape);
}

Tensor GradientBuffers::piece(const ShardPiece& piece) {
  const Bucket& bucket = buckets_[static_cast<size_t>(piece.bucket)];
  if (!sharded_) return bucket.grad.flat_range(piece.begin, piece.end);
  return progress(bucket).shard.flat_range(piece.begin - shard_begin(bucket), piece.end - shard_begin(bucket));
}

std::optional<double> GradientBuffers::square_sum() const {
  if (!is_final()) return std::nullopt;
  double sum = 0;
  for (const PackState& s : packs_) sum += s.square_sum;
  return sum;
}

}  // namespace deepflow
