#pragma once

#include "core/random.h"
#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// Plain passes over memory without a tape. Tensors are matrices with any ld unless said otherwise.
void copy(Runtime& runtime, const Tensor& from, Tensor& to);     // same shape; casts between f32, bf16 and f16
void add_into(Runtime& runtime, Tensor& into, const Tensor& x);  // into += x; into is f32 or has the dtype of x
// x itself where nobody else holds it, otherwise a copy: what may be overwritten.
Tensor owned_copy(Runtime& runtime, Tensor x);
// into += x for a value on a tape that has several readers (BackwardContext::accumulate): in a tensor of its own when
// somebody else holds `into` as well.
void accumulate_gradient(Runtime& runtime, Tensor& into, const Tensor& x);
void scale(Runtime& runtime, Tensor& x, float factor);  // f32, bf16 or f16
void fill(Runtime& runtime, Tensor& x, float value);    // f32, bf16 or f16
double sum_squares(Runtime& runtime, const Tensor& x);  // f32, contiguous; f64 sums in a fixed order
bool all_finite(Runtime& runtime, const Tensor& x);     // f32, bf16 or f16
// Normal(0, stddev) at logical coordinates: element (r, c) of `out` [rows, cols] is
// random_normal(site, row_begin + r, col_begin + c) * stddev. Split over threads.
void fill_normal(Runtime& runtime, Tensor& out, const RandomSite& site, float stddev, int64_t row_begin,
                 int64_t col_begin);

}  // namespace deepflow
