#pragma once

#include "core/context.h"

#include <optional>

namespace deepflow {

// Residual + norm in one pass over memory: r = x + delta (r = x without delta), y = norm(r).
// x, r: f32 [M, D], the residual stream; delta, y: compute dtype. Statistics in f32.
// The gradient of r that arrives later is added in the same backward pass, in place where it is solely owned.
struct NormResult {
  Var residual;  // r
  Var normed;    // y
};

// Zhang & Sennrich 2019: y = r / sqrt(mean(r^2) + eps) * (gain + gain_offset).
NormResult rms_norm(ForwardContext& context, const Var& x, const std::optional<Var>& delta, Pack& gain, float eps,
                    float gain_offset = 0);

// Ba et al. 2016: y = (r - mean) / sqrt(var + eps) * gain + bias. `bias` may be null.
NormResult layer_norm(ForwardContext& context, const Var& x, const std::optional<Var>& delta, Pack& gain, Pack* bias,
                      float eps);

}  // namespace deepflow
