#pragma once

#include "core/state.h"
#include "core/work.h"
#include "parallel/bucket.h"

namespace deepflow {

// How gradients travel between the ranks that saw different data. Input is f32, unscaled, already divided by the global
// count of tokens and summed over the ranks where it was partial: sums only, nothing divides later. One implementation
// a file in parallel/exchange/. All calls are collective over the gradient axes and made in the same order on every
// rank.
class Exchange : public StateOwner {
 public:
  // Nothing travels: a gradient is what it will be as soon as this rank has completed it.
  virtual bool is_local() const = 0;
  // Sums bucket.grad, which the Work keeps alive. This rank's shard of the sum (all of it, without ZeRO) arrives in
  // `mine`, or where that is undefined in its own place in bucket.grad. Once a step and bucket, or from ZeRO-2 on once
  // a micro-batch. Null when there is nothing to do.
  virtual WorkPtr reduce(Bucket& bucket, const Tensor& mine) = 0;
  // Once a step and bucket, when all that `reduce` brought has been added up in `mine`, as above: sums it over the
  // ranks that own the same shard. Null when there are no others.
  virtual WorkPtr reduce_replicas(Bucket& bucket, const Tensor& mine) = 0;
  // Once a step, after every bucket. applied = false (overflow, NaN): what was sent returns to the residuals.
  virtual void finish(bool applied) = 0;
  // After it, every rank has the whole bucket's masters; each had updated its shard.
  virtual WorkPtr share(Bucket& bucket) = 0;
};

}  // namespace deepflow
