#pragma once

#include "core/context.h"
#include "kernels/ops/row_groups.h"

namespace deepflow {

// y = x W_g^T for the rows of each group g (an expert): x [M, in], a grouped pack W of matrices [out, in]
// (core/parameter.h: out is that of all members one below the other), y [M, out] in the context's compute dtype,
// products summed in f32. Groups may be empty, hold one row, or all. Int8 products in the context are not for it.
// Backward: dx = dy W_g from the kInputGrad form; dW_g += dy_g^T x_g, f32, in backward_weight, also where there are no
// rows. Until then x is kept as kernels/ops/kept_input.h says.
Var grouped_linear(ForwardContext& context, const Var& x, Pack& weight, RowGroups rows);

}  // namespace deepflow
