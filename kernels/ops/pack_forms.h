#pragma once

#include "core/parameter.h"
#include "core/runtime.h"
#include "core/tensor.h"
#include "kernels/ops/weight_panels.h"

namespace deepflow {

// Derived forms of whole packs (core/parameter.h), grouped or not. The packed form of a grouped pack is one allocation:
// for each group the form that kernels/ops/matmul.h packs from that group's matrix, at multiples of a fixed stride.

// Bytes of a form.
int64_t form_bytes(Runtime& runtime, const Pack& pack, DType compute, Form form);
// What `derive_form` fills: kRowMajor as a matrix like the master in `compute`, packed forms as u8.
Tensor empty_form(Runtime& runtime, const Pack& pack, DType compute, Form form);
// master: f32 [physical_rows, cols] contiguous. Not for Form::kMaster.
void derive_form(Runtime& runtime, const Pack& pack, const Tensor& master, DType compute, Form form, Tensor& value);

// The packed form of group g alone.
Tensor form_of_group(const Tensor& packed, int64_t groups, int64_t g);
// Rows of a master, or of its gradient, that belong to member m of group g.
Tensor rows_of_group(const Pack& pack, const Tensor& master, int64_t member, int64_t g);

// Whether `form` lies in panels, in every group, and the panels of a pack whose forms lie at these addresses (either
// may be null).
bool lies_in_panels(Runtime& runtime, const Pack& pack, DType compute, Form form);
WeightPanels panels_of(const Pack& pack, BF16* forward, BF16* input_grad);

}  // namespace deepflow
