#pragma once

#include "core/context.h"

#include <vector>

namespace deepflow {

// Which columns are normed by themselves: from column 0 on, for every entry of `groups` that many runs of `width`
// columns, entry i with row i of the gain. {{heads, kv_heads}, head_dim} are the queries and keys of q|k|v,
// {{1}, D} is a whole row.
struct NormGroups {
  std::vector<int64_t> groups;
  int64_t width;
};

// Zhang & Sennrich 2019 over runs of columns, in the compute dtype and apart from the residual stream: queries and keys
// (Henry et al. 2020, with RMS norm as in Qwen3), a layer's output (Gemma 2). x [M, N] compute dtype, contiguous:
//     y = x / sqrt(mean over the run (x^2) + eps) * (gain + gain_offset)
// and columns behind the last run as they are. The gain's pack has a member of `width` for every entry of `groups`.
// Statistics in f32. Where columns are left as they are it works IN PLACE, as `rope` does: the returned Var has the
// storage of x, and for backward the normed columns are kept as they were; otherwise x is.
Var group_rms_norm(ForwardContext& context, const Var& x, Pack& gain, NormGroups groups, float eps,
                   float gain_offset = 0);

}  // namespace deepflow
