#pragma once

#include "kernels/ops/router.h"

namespace deepflow {

// How narrowly experts were chosen: over all rows the smallest difference between a value that was taken, of an expert
// or of a group, and the largest one that was not; infinity where all were taken. Scores that differ by less between
// two orders of the same sums may fall otherwise. scores f32 [M, E], contiguous; bias: [E], or null.
double closest_choice(const Runtime& runtime, const Tensor& scores, const float* bias, const Routing& routing);

}  // namespace deepflow
