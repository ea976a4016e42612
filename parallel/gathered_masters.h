#pragma once

#include "core/runtime.h"
#include "parallel/bucket.h"
#include "parallel/communicator.h"
#include "parallel/shard_map.h"

#include <functional>
#include <memory>
#include <vector>

namespace deepflow {

// Masters of which every rank keeps its shard only (ZeRO-3). A bucket is gathered when it is used, and given up when
// others are: at any time there are the one in use and at most kAhead that are coming. The order of use in a step is
// written down and followed in the next ones, which gather ahead along it; where a step strays from it, and outside of
// steps, buckets are gathered on demand, the one before stays, and a step's order is written down anew. The ranks of a
// shard group make the same calls in the same order.
//
// Buckets that are only read in a 16-bit compute dtype travel in it, at half the bytes. Rounding before or after the
// gather gives the same bits.
class GatheredMasters {
 public:
  static constexpr int kAhead = 2;
  enum class Read : uint8_t { kExact, kRounded };

  // comms: the ranks of the shard map, with queues of their own, so that gathers do not stand behind gradients.
  // given_up: called with a bucket when its gathered values end, to drop what was derived from them.
  GatheredMasters(Runtime& runtime, const std::vector<Bucket>& buckets, const ShardMap& shards,
                  PerDomain<std::shared_ptr<Communicator>> comms, DType compute,
                  std::function<void(const Bucket&)> given_up);
  ~GatheredMasters();

  // f32, this rank's elements of the bucket; whoever writes them calls `wait` before and `written` after.
  Tensor& shard(int bucket) { return shards_of_[static_cast<size_t>(bucket)]; }
  void wait();  // until no gather reads the shards
  void written();

  // The whole bucket: f32, or with Read::kRounded perhaps in the compute dtype.
  Tensor use(int bucket, Read read, Stream& stream);
  void begin_step(int passes);
  void end_step();      // waits for what is under way and gives everything up
  void gather_ahead();  // what the next step will use first
  int64_t bytes_sent() const;

 private:
  struct Gathered {
    Tensor value;
    WorkPtr pending;
  };
  bool is_rounded(int bucket, Read read) const;
  void gather(int bucket, bool rounded);
  void give_up(int bucket);
  void give_up_others(const std::vector<int>& kept);
  void follow(int bucket);

  Runtime& runtime_;
  const std::vector<Bucket>& buckets_;
  const ShardMap& shards_;
  PerDomain<std::shared_ptr<Communicator>> comms_;  // may be one and the same
  DType compute_;
  std::function<void(const Bucket&)> given_up_;
  std::vector<Tensor> shards_of_;  // by bucket id
  std::vector<Gathered> gathered_;
  std::vector<bool> read_exactly_;  // some use in a step needs f32
  std::vector<int> order_;          // of use in a step; neighbours differ
  size_t at_ = 0;
  int passes_ = 0, last_ = -1, before_last_ = -1;
  bool in_step_ = false, follows_ = false;
};

}  // namespace deepflow
