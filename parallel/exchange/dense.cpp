#include "parallel/exchange/dense.h"

namespace deepflow {

Tensor DenseExchange::my_part(const Bucket& bucket, const Tensor& flat) const {
  return flat.flat_range(shards_.begin(bucket.id, domain_.rank()), shards_.end(bucket.id, domain_.rank()));
}

WorkPtr DenseExchange::reduce(Bucket& bucket) {
  if (domain_.size() == 1) return nullptr;
  if (!is_sharded()) return domain_.all_reduce(bucket.grad, ReduceOp::kSum, "gradients");
  return domain_.reduce_scatter(bucket.grad, my_part(bucket, bucket.grad), shards_.counts(bucket.id), "gradients");
}

WorkPtr DenseExchange::share(Bucket& bucket) {
  if (!is_sharded()) return nullptr;
  return domain_.all_gather(my_part(bucket, bucket.master), bucket.master, shards_.counts(bucket.id), "parameters");
}

}  // namespace deepflow
