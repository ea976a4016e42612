#pragma once

#include "core/parameter.h"
#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// y = x W^T and dx = dy W in int8, both operands quantised in blocks along the summed dimension
// (kernels/cpu/int8_matmul.h); the weight gradient, which sums over the tokens, stays in bf16: Wortsman et al., "Stable
// and low-precision training for large-scale vision-language models" (SwitchBack), 2023. A NaN or an infinity in an
// operand comes out as NaN in the whole row or column. The bits depend neither on threads nor on the instruction set.

// The forms kForwardInt8 and kInputGradInt8 of a weight [out, in]; kernels/ops/matmul.h has the entry for all forms.
size_t int8_weight_bytes(int64_t out, int64_t in, Form form);
// master: f32 [out, in] contiguous. packed: u8 [int8_weight_bytes].
void pack_int8_weight(Runtime& runtime, const Tensor& master, Form form, Tensor& packed);

// x [M, in] and y [M, out], dy [M, out] and dx [M, in]: bf16, any row stride. bias: f32 [out] or null.
void int8_matmul_forward(Runtime& runtime, const Tensor& x, const Tensor& packed, int64_t out, const Tensor* bias,
                         Tensor& y);
void int8_matmul_input_grad(Runtime& runtime, const Tensor& dy, const Tensor& packed, int64_t in, Tensor& dx);

}  // namespace deepflow
