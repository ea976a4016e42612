#pragma once

#include "core/parameter.h"
#include "core/runtime.h"

#include <functional>

namespace deepflow {

// The dtype that a parameter has in a file: what `dtype_of` says; where that is null `dtype`, but f32 for a buffer (a
// router's bias), which transformers keeps and saves in f32 whatever the model's dtype. f32, bf16 or f16.
DType file_dtype(const Parameter& parameter, DType dtype, const std::function<DType(const Parameter&)>& dtype_of);

// `value` (f32) itself, or cast.
Tensor in_dtype(Runtime& runtime, Tensor value, DType dtype);

}  // namespace deepflow
