#pragma once

#include "core/context.h"

namespace deepflow {

// y = x W^T + b.  x [M, in], W [out, in] (a pack without padded rows: its members side by side), b [out] or none,
// y [M, out] in the context's compute dtype, products summed in f32.
// With int8 products in the context, y and dx come from int8_matmul and the int8 forms; dw stays as it is.
// Backward: dx = dy W from the kInputGrad form; dW += dy^T x and db += column sums of dy, f32, in backward_weight.
// Until then x is kept as kernels/ops/kept_input.h says.
Var linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias);

}  // namespace deepflow
