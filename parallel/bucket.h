#pragma once

#include "core/parameter_registry.h"
#include "core/tensor.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// Packs whose gradients are exchanged together, in flat f32 memory: masters and gradients have the same layout. Packs
// start at multiples of 64 elements; what lies between them stays zero. One reduction domain a bucket.
struct Bucket {
  int id = 0;
  std::vector<Pack*> packs;
  std::vector<int64_t> offsets;  // first element of each pack
  int64_t num_elements = 0;
  Tensor master, grad;  // f32 [num_elements]; grad is taken at the first contribution

  int64_t offset_of(const Parameter& p) const;
};

// Packs in reverse order of declaration (the order in which backward completes them), cut into buckets of about
// `bucket_elements`. A pack is never cut, so a bucket may be larger. The first bucket is a quarter as large, so that
// the exchange starts early.
std::vector<Bucket> make_buckets(ParameterRegistry& registry, int64_t bucket_elements);

}  // namespace deepflow
