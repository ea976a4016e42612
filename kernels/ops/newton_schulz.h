#pragma once

#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// Jordan et al. 2024 (Muon: an optimizer for hidden layers): with X = G / |G| (Frobenius), steps of
//   X <- a X + (b A + c A A) X,  A = X X^T,  (a, b, c) = (3.4445, -4.7750, 2.0315)
// bring all singular values near 1 (between 0.7 and 1.2 after five), whatever they were, and leave the singular
// vectors. A is taken on the shorter side. `dtype`, f32 or bf16, is that of the products' operands; sums are f32.
//
// matrix: f32 [rows, cols], contiguous, replaced. A matrix of zeros stays so.
void newton_schulz(Runtime& runtime, Tensor& matrix, int64_t steps, DType dtype);
int64_t newton_schulz_bytes(int64_t rows, int64_t cols, DType dtype);  // that it takes while it runs

}  // namespace deepflow
