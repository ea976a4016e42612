#pragma once

#include "core/context.h"

#include <string_view>

namespace deepflow {

// Srivastava et al. 2014, inverted: keeps an element with probability 1 - p and divides it by 1 - p. The mask is a
// function of (seed, step, site, global token id of the row, column); backward computes it again. Identity when not
// training or p = 0. x: f32 or compute dtype, rows of the residual stream.
Var dropout(ForwardContext& context, const Var& x, float p, std::string_view site);

}  // namespace deepflow
