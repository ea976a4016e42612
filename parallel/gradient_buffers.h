#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "parallel/bucket.h"
#include "parallel/exchange.h"
#include "parallel/shard_map.h"

#include <deque>
#include <optional>
#include <vector>

namespace deepflow {

// Gradients on their way from backward to the optimizer, bucket by bucket, while backward still runs.
//
// A bucket's memory is taken at its first contribution. When all its packs have had theirs, ranges that are partial are
// summed over their own ranks, and the bucket goes to the exchange. Those without partial ranges go at once, in bucket
// order; those with them go in `finish`, behind all others, because their sums have to arrive first.
//
// With whole gradients (ZeRO 0 and 1) that is once a step, and the memory is given back when the next step begins. With
// sharded ones (ZeRO 2 and 3) buckets without partial ranges go after every micro-batch, in the order in which they
// complete, and give their memory back; what arrives is added to this rank's shard. Buckets with partial ranges keep
// their whole gradient until `finish`. The ranks of a shard group must bring contributions in the same order, which
// they do as they run the same program.
class GradientBuffers {
 public:
  // ranks: this rank's among those of the shard map. alone: no other rank has anything to say about gradients, so that
  // they are final when complete.
  GradientBuffers(Runtime& runtime, std::vector<Bucket>& buckets, const ShardMap& shards, PerDomain<int> ranks,
                  bool sharded, bool alone);
  ~GradientBuffers();  // waits for what is under way
  GradientBuffers(const GradientBuffers&) = delete;
  GradientBuffers& operator=(const GradientBuffers&) = delete;

  void begin_step(int passes, Exchange* exchange);
  GradientTarget gradient(const Pack& pack);
  void contributed(const Pack& pack);
  void finish(Stream& stream);

  // After finish. Whole gradients only: any part. Sharded: pieces of this rank's shard.
  Tensor of(const Parameter& p);
  Tensor piece(const ShardPiece& piece);
  std::optional<double> square_sum() const;

 private:
  struct PackState {
    int bucket = 0;
    int64_t offset = 0;
    int pending = 0;        // contributions since the bucket was last sent
    int total = 0;          // of this step
    double square_sum = 0;  // of the complete gradient
  };
  struct BucketState {
    int incomplete_packs = 0;
    std::vector<WorkPtr> partial_sums;
    WorkPtr reducing, replicating;
    Tensor shard;  // sharded: what has arrived so far
    int sends = 0;
  };
  struct Arrival {
    int bucket;
    Tensor to_add;  // undefined when the sum goes straight into the shard
    WorkPtr work;
  };

  PackState& state(const Pack& pack);
  BucketState& progress(const Bucket& bucket) { return progress_[static_cast<size_t>(bucket.id)]; }
  bool goes_every_pass(const Bucket& bucket) const { return sharded_ && bucket.partial.empty(); }
  bool is_final() const { return alone_ && exchange_ && exchange_->is_local(); }
  int64_t shard_begin(const Bucket& bucket) const { return shards_.begin(bucket.id, ranks_[bucket.domain]); }
  int64_t shard_size(const Bucket& bucket) const {
    return shards_.counts(bucket.id)[static_cast<size_t>(ranks_[bucket.domain])];
  }
  void ensure_memory(Bucket& bucket);
  void complete(Bucket& bucket);
  void sum_complete_partial_buckets();
  void send_complete_buckets();
  void send(Bucket& bucket);
  void send_shards(Bucket& bucket);
  void add_next_arrival();

  Runtime& runtime_;
  std::vector<Bucket>& buckets_;
  const ShardMap& shards_;
  const PerDomain<int> ranks_;
  bool sharded_, alone_;
  std::vector<PackState> packs_;       // by pack id
  std::vector<BucketState> progress_;  // by bucket id
  std::deque<Arrival> arrivals_;
  Exchange* exchange_ = nullptr;
  int passes_ = 1;
  size_t next_bucket_ = 0, next_partial_ = 0;  // buckets before them have been sent, or their partial sums have
};

}  // namespace deepflow
