#pragma once

#include "core/context.h"

#include <span>
#include <vector>

namespace deepflow {

// The columns of x [M, N] in blocks of the given widths, which sum to N, each a contiguous matrix [M, width]: what one
// product made for several readers. One pass over memory forward, one backward.
std::vector<Var> split_columns(ForwardContext& context, const Var& x, std::span<const int64_t> widths);

}  // namespace deepflow
