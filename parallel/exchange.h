#pragma once

#include "core/state.h"
#include "core/work.h"
#include "parallel/bucket.h"

namespace deepflow {

// How gradients travel between the ranks that saw different data. Input is f32, unscaled, already divided by the global
// count of tokens: sums only, nothing divides later. One implementation a file in parallel/exchange/.
// All calls are collective over the batch axes and made in the same order on every rank.
class Exchange : public StateOwner {
 public:
  // Nothing travels: a gradient is what it will be as soon as this rank has completed it.
  virtual bool is_local() const = 0;
  // After it, the summed gradient is valid on this rank's shard of the bucket (everywhere, without ZeRO).
  virtual WorkPtr reduce(Bucket& bucket) = 0;
  // Once a step, after every bucket. applied = false (overflow, NaN): what was sent returns to the residuals.
  virtual void finish(bool applied) = 0;
  // After it, every rank has the whole bucket's masters; each had updated its shard.
  virtual WorkPtr share(Bucket& bucket) = 0;
};

}  // namespace deepflow
