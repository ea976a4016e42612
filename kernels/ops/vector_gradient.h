#pragma once

#include "core/autograd.h"
#include "core/parameter.h"
#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// Gradients of gains and biases: every thread sums over its rows, the sums are added in the order of the threads.

// sum [N] or [1, N] = the sum of the rows of parts [threads, N], in their order.
void add_parts(Runtime& runtime, const Tensor& parts, Tensor& sum);
// Writes or adds n numbers to the gradient of the pack and counts them as its contribution.
void contribute_vector(BackwardContext& context, Pack& pack, const float* value, int64_t n);

}  // namespace deepflow
