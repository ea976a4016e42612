#pragma once

#include "core/tensor.h"

#include <utility>

namespace deepflow {

// Storage for a result with the shape and dtype of `spent`, which is not read afterwards: `spent` itself, moved from,
// where nobody else holds it, otherwise fresh memory. Element-wise kernels may read the one while writing the other.
inline Tensor reuse_or_empty(Allocator& memory, Tensor& spent) {
  if (spent.is_sole_owner() && spent.is_contiguous()) return std::move(spent);
  return Tensor::empty(memory, spent.shape(), spent.dtype());
}

}  // namespace deepflow
