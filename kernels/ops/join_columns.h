#pragma once

#include "core/context.h"

namespace deepflow {

// [a | b]: the columns of two matrices of as many rows and one dtype side by side, so that one product reads both.
// Backward gives each its columns of the gradient.
Var join_columns(ForwardContext& context, const Var& a, const Var& b);

}  // namespace deepflow
