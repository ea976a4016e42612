#pragma once

#include "core/parameter.h"
#include "core/runtime.h"
#include "core/tensor.h"
#include "kernels/ops/row_groups.h"

namespace deepflow {

// The products of `grouped_linear`, for it and for ops that cut it over ranks. f32, bf16 or f16 operands, f32 sums. A
// row of a result depends on that row and its group alone.

// c [M, n] = a [M, k] B_g for the rows of each group; `packed`: the groups' B [k, n] as a grouped pack's kForward (B =
// W_g^T) or kInputGrad (B = W_g) has them.
void grouped_product(Runtime& runtime, const Tensor& a, const RowGroups& rows, const Tensor& packed, Tensor& c);
// dW_g (+)= dy_g^T x_g for every group, into the gradient of the pack; zero where a group has no rows.
void grouped_weight_grad(Runtime& runtime, const Tensor& dy, const Tensor& x, const RowGroups& rows, const Pack& weight,
                         GradientTarget& dw);

}  // namespace deepflow
