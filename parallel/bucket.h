#pragma once

#include "core/parameter_registry.h"
#include "core/tensor.h"
#include "parallel/gradient_domains.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// Elements of a bucket whose local gradient is only a partial sum over the ranks of `comm`.
struct PartialRange {
  int64_t begin, end;
  Communicator* comm;
};

// Packs whose gradients are exchanged together, in flat f32 memory: masters and gradients have the same layout. Packs
// start at multiples of 64 elements; what lies between them stays zero. A bucket holds packs of one family: read by the
// same model chunks, so that it completes with their backward alone, exchanged and partial over the same ranks.
struct Bucket {
  int id = 0;
  std::vector<Pack*> packs;
  std::vector<int64_t> offsets;  // first element of each pack
  int64_t num_elements = 0;
  GradientDomain domain = GradientDomain::kDense;  // the ranks that the exchange sums over
  std::vector<PartialRange> partial;               // ascending; the same on all ranks of a range's communicator
  Tensor master, grad;  // f32 [num_elements]; where a store keeps shards only, what it has gathered, and
                        // what backward is adding to

  int64_t offset_of(const Parameter& p) const;
};

// Local packs in reverse order of declaration (the order in which backward completes them), cut into buckets of about
// `bucket_elements` within their family; ids are in the order of the buckets' last packs. A pack is never cut, so a
// bucket may be larger. The first bucket of a family is a quarter as large, so that the exchange starts early. domains:
// null when no gradient is partial. matrices_apart: what a product reads as a matrix and what is read exactly, in f32
// (norms, biases, embeddings), are two families.
std::vector<Bucket> make_buckets(ParameterRegistry& registry, int64_t bucket_elements,
                                 const GradientDomains* domains = nullptr, bool matrices_apart = false);

}  // namespace deepflow
