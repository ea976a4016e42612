#pragma once

#include "parallel/communicator.h"
#include "parallel/exchange.h"
#include "parallel/gradient_domains.h"
#include "parallel/shard_map.h"

namespace deepflow {

// The whole gradient, f32. Without ZeRO (a shard map of one rank): all-reduce in place, and nothing to share. With it:
// reduce-scatter to the owners, all-gather of the masters; together the same bytes. With replicas (hybrid sharding) the
// owners of the same shard sum it among themselves in between.
class DenseExchange final : public Exchange {
 public:
  // ranks: those of the shard map, or without ZeRO all that see different data; replicas: those with the same shard.
  // Null: none.
  DenseExchange(Communicator& ranks, const ShardMap& shards, Communicator* replicas = nullptr)
      : ranks_(&ranks), replicas_(replicas), shards_(shards) {}
  DenseExchange(const GradientDomains& domains, const ShardMap& shards, int zero);

  bool is_local() const override;
  WorkPtr reduce(Bucket& bucket, const Tensor& mine) override;
  WorkPtr reduce_replicas(Bucket& bucket, const Tensor& mine) override;
  void finish(bool) override {}
  WorkPtr share(Bucket& bucket) override;
  void visit_state(const StateVisitor&) override {}

 private:
  bool is_sharded(const Bucket& bucket) const { return shards_.num_ranks(bucket.domain) > 1; }
  bool has_replicas(GradientDomain d) const { return replicas_[d] && replicas_[d]->size() > 1; }

  Tensor my_part(const Bucket& bucket, const Tensor& flat) const;

  PerDomain<Communicator*> ranks_, replicas_;
  const ShardMap& shards_;
};

}  // namespace deepflow
