#pragma once

#include "parallel/communicator.h"
#include "parallel/exchange.h"
#include "parallel/shard_map.h"

namespace deepflow {

// The whole gradient, f32. Without ZeRO (a shard map of one rank): all-reduce in place, and nothing to share. With
// ZeRO-1: reduce-scatter to the owners, all-gather of the masters; together the same bytes.
class DenseExchange final : public Exchange {
 public:
  DenseExchange(Communicator& domain, const ShardMap& shards) : domain_(domain), shards_(shards) {}

  bool is_local() const override { return domain_.size() == 1; }
  WorkPtr reduce(Bucket& bucket) override;
  void finish(bool) override {}
  WorkPtr share(Bucket& bucket) override;
  void visit_state(const StateVisitor&) override {}

 private:
  bool is_sharded() const { return shards_.num_ranks() > 1; }
  Tensor my_part(const Bucket& bucket, const Tensor& flat) const;

  Communicator& domain_;
  const ShardMap& shards_;
};

}  // namespace deepflow
