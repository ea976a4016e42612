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
  // domain: the ranks of the shard map, or without ZeRO all ranks that see different data.
  DenseExchange(Communicator& domain, const ShardMap& shards, Communicator* replicas = nullptr)
      : domain_(domain), shards_(shards), replicas_(replicas) {}
  DenseExchange(const GradientDomains& domains, const ShardMap& shards, int zero)
      : DenseExchange(zero > 0 ? domains.shard() : domains.gradient(), shards,
                      zero > 0 ? &domains.replica() : nullptr) {}

  bool is_local() const override { return domain_.size() == 1 && !has_replicas(); }
  WorkPtr reduce(Bucket& bucket, const Tensor& mine) override;
  WorkPtr reduce_replicas(Bucket& bucket, const Tensor& mine) override;
  void finish(bool) override {}
  WorkPtr share(Bucket& bucket) override;
  void visit_state(const StateVisitor&) override {}

 private:
  bool is_sharded() const { return shards_.num_ranks() > 1; }
  bool has_replicas() const { return replicas_ && replicas_->size() > 1; }

  Tensor my_part(const Bucket& bucket, const Tensor& flat) const;

  Communicator& domain_;
  const ShardMap& shards_;
  Communicator* replicas_;
};

}  // namespace deepflow
