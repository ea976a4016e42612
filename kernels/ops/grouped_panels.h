#pragma once

#include "core/parameter.h"
#include "core/runtime.h"
#include "core/tensor.h"
#include "kernels/ops/row_groups.h"

namespace deepflow {

// The products of kernels/ops/grouped_products.h by a kernel of ours, where oneDNN asks for weights in panels
// (kernels/cpu/panel_product.h). One job for all groups: tasks of about equal cost, cut from rows and columns, go to
// whichever thread is free; the same bits for any number of threads. They return false and do nothing where the layout,
// the dtype or an extent is not for the kernel.
bool grouped_panel_product(Runtime& runtime, const Tensor& a, const RowGroups& rows, const Tensor& packed, Tensor& c);
// Bytes that a weight gradient of matrices [out, in] makes for itself on so many threads; 0 where the extents are not
// for the kernel.
int64_t grouped_panel_scratch(DType dtype, int64_t out, int64_t in, int threads);
bool grouped_panel_weight_grad(Runtime& runtime, const Tensor& dy, const Tensor& x, const RowGroups& rows,
                               const Pack& weight, GradientTarget& dw);

}  // namespace deepflow
