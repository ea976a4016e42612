#include "checkpoint/file_dtype.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

namespace deepflow {

DType file_dtype(const Parameter& parameter, DType dtype, const std::function<DType(const Parameter&)>& dtype_of) {
  const DType chosen = dtype_of ? dtype_of(parameter) : parameter.spec.role == Role::kBuffer ? DType::kF32 : dtype;
  DF_ASSERT(chosen == DType::kF32 || chosen == DType::kBF16 || chosen == DType::kF16, "{}", name_of(chosen));
  return chosen;
}

Tensor in_dtype(Runtime& runtime, Tensor value, DType dtype) {
  if (value.dtype() == dtype) return value;
  Tensor narrow = Tensor::empty(runtime.memory(), value.shape(), dtype);
  copy(runtime, value, narrow);
  return narrow;
}

}  // namespace deepflow
