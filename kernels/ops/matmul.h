#pragma once

#include "core/parameter.h"
#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// GEMM on plain matrices, f32, bf16 or f16 operands, f32 accumulation, any ld. Through oneDNN on the CPU; primitives
// are cached in the runtime by shape and form. oneDNN multiplies no f16 on CPUs: there f16 operands are copied to f32
// and the result is rounded once, which tells how a recipe behaves in f16 but is slower than f32.
struct MatmulOptions {
  bool transpose_a = false;  // a is stored [K, M]
  bool transpose_b = false;  // b is stored [N, K]
  bool accumulate = false;   // c += ...; c must be f32
};
void matmul(Runtime& runtime, const Tensor& a, const Tensor& b, Tensor& c, const MatmulOptions& options = {});

// The derived forms of a weight [out, in] (core/parameter.h): what a GEMM with it as the second operand reads fastest.
// kForward serves x W^T, kInputGrad serves dy W. Opaque bytes: the layout is fixed per (dtype, out, in, form) for the
// life of the runtime, whatever the number of rows of x. dtype is no matter for kForwardInt8 and kInputGradInt8, which
// kernels/ops/int8_matmul.h reads.
size_t packed_weight_bytes(Runtime& runtime, DType dtype, int64_t out, int64_t in, Form form);
// master: f32 [out, in] contiguous. packed: u8 [packed_weight_bytes].
void pack_weight(Runtime& runtime, const Tensor& master, DType dtype, Form form, Tensor& packed);

// y [M, out] = x [M, in] W^T (+ bias f32 [out]), and dx [M, in] = dy [M, out] W. f32, bf16 or f16; y may be f32
// whatever the operands. `packed` is the matching form of a weight with these extents.
void matmul_forward(Runtime& runtime, const Tensor& x, const Tensor& packed, int64_t out, const Tensor* bias,
                    Tensor& y);
void matmul_input_grad(Runtime& runtime, const Tensor& dy, const Tensor& packed, int64_t in, Tensor& dx);
// dw f32 [out, in] (+)= dy^T x.
void matmul_weight_grad(Runtime& runtime, const Tensor& dy, const Tensor& x, GradientTarget& dw);
// db f32 [out] (+)= column sums of dy, in a fixed order.
void column_sums(Runtime& runtime, const Tensor& dy, GradientTarget& db);

}  // namespace deepflow
