#pragma once

#include "core/dtype.h"
#include "core/error.h"

#include <utility>

namespace deepflow {

// f(T{}) with the storage type that a compute dtype names: float, BF16 or F16.
template <class F>
decltype(auto) with_compute_type(DType dtype, F&& f) {
  if (dtype == DType::kF32) return std::forward<F>(f)(float{});
  if (dtype == DType::kBF16) return std::forward<F>(f)(BF16{});
  DF_ASSERT(dtype == DType::kF16, "{} is no compute dtype", name_of(dtype));
  return std::forward<F>(f)(F16{});
}

}  // namespace deepflow
