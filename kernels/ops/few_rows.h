#pragma once

#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

class GemmCache;

// y [M, n] = x [M, k] B (+ bias f32 [n]) for up to 16 rows, at the speed of memory: generation, where every token reads
// all weights once. x f32 or bf16, y f32 or bf16, any ld; packed: B [k, n] of x's dtype as matmul_forward takes it.
// A row's result is the same bits whatever rows stand beside it, for any number of threads.
// Returns false and does nothing for more rows, or where the packed layout is not the kernel's.
bool few_rows_product(Runtime& runtime, GemmCache& cache, const Tensor& x, const Tensor& packed, int64_t n,
                      const Tensor* bias, Tensor& y);

}  // namespace deepflow
