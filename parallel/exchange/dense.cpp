#include "parallel/exchange/dense.h"

namespace deepflow {

Tensor DenseExchange::my_part(const Bucket& bucket, const Tensor& flat) const {
  const int rank = is_sharded() ? domain_.rank() : 0;
  return flat.flat_range(shards_.begin(bucket.id, rank), shards_.end(bucket.id, rank));
}

WorkPtr DenseExchange::reduce(Bucket& bucket, const Tensor& mine) {
  if (domain_.size() == 1) return nullptr;
  if (!is_sharded()) return domain_.all_reduce(bucket.grad, ReduceOp::kSum, "gradients");
  return domain_.reduce_scatter(bucket.grad, mine.defined() ? mine : my_part(bucket, bucket.grad),
                                shards_.counts(bucket.id), "gradients");
}

WorkPtr DenseExchange::reduce_replicas(Bucket& bucket, const Tensor& mine) {
  if (!has_replicas()) return nullptr;
  return replicas_->all_reduce(mine.defined() ? mine : my_part(bucket, bucket.grad), ReduceOp::kSum,
                               "gradients of a shard");
}

WorkPtr DenseExchange::share(Bucket& bucket) {
  if (!is_sharded()) return nullptr;
  return domain_.all_gather(my_part(bucket, bucket.master), bucket.master, shards_.counts(bucket.id), "parameters");
}

}  // namespace deepflow
