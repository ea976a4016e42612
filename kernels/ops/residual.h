#pragma once

#include "core/context.h"

namespace deepflow {

// r = x + delta, f32 [M, D]: the residual stream at the end of a pipeline stage, where no norm follows that would add
// the last layer's output in its own pass. x: f32; delta: compute dtype. The same bits as the norm's own sum.
Var add_residual(ForwardContext& context, const Var& x, const Var& delta);

// a + b, both [M, D] of the compute dtype: outputs of two layers that stand side by side.
Var add_outputs(ForwardContext& context, const Var& a, const Var& b);

// A layer's output [M, D] of the compute dtype as the beginning of a residual stream: the same in f32.
Var as_stream(ForwardContext& context, const Var& output);

}  // namespace deepflow
