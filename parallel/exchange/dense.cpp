#include "parallel/exchange/dense.h"

namespace deepflow {

DenseExchange::DenseExchange(const GradientDomains& domains, const ShardMap& shards, int zero)
    : ranks_(nullptr), replicas_(nullptr), shards_(shards) {
  for (const GradientDomain d : {GradientDomain::kDense, GradientDomain::kExpert}) {
    ranks_[d] = zero > 0 ? &domains.shard(d) : &domains.gradient(d);
    if (zero > 0) replicas_[d] = &domains.replica(d);
  }
}

bool DenseExchange::is_local() const {
  for (const GradientDomain d : {GradientDomain::kDense, GradientDomain::kExpert})
    if (ranks_[d]->size() > 1 || has_replicas(d)) return false;
  return true;
}

Tensor DenseExchange::my_part(const Bucket& bucket, const Tensor& flat) const {
  const int rank = is_sharded(bucket) ? ranks_[bucket.domain]->rank() : 0;
  return flat.flat_range(shards_.begin(bucket.id, rank), shards_.end(bucket.id, rank));
}

WorkPtr DenseExchange::reduce(Bucket& bucket, const Tensor& mine) {
  Communicator& ranks = *ranks_[bucket.domain];
  if (ranks.size() == 1) return nullptr;
  if (!is_sharded(bucket)) return ranks.all_reduce(bucket.grad, ReduceOp::kSum, "gradients");
  return ranks.reduce_scatter(bucket.grad, mine.defined() ? mine : my_part(bucket, bucket.grad),
                              shards_.counts(bucket.id), "gradients");
}

WorkPtr DenseExchange::reduce_replicas(Bucket& bucket, const Tensor& mine) {
  if (!has_replicas(bucket.domain)) return nullptr;
  return replicas_[bucket.domain]->all_reduce(mine.defined() ? mine : my_part(bucket, bucket.grad), ReduceOp::kSum,
                                              "gradients of a shard");
}

WorkPtr DenseExchange::share(Bucket& bucket) {
  if (!is_sharded(bucket)) return nullptr;
  return ranks_[bucket.domain]->all_gather(my_part(bucket, bucket.master), bucket.master, shards_.counts(bucket.id),
                                           "parameters");
}

}  // namespace deepflow
