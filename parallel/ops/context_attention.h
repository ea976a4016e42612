#pragma once

#include "kernels/ops/attention.h"
#include "parallel/context_parallel.h"

namespace deepflow {

// `attention` of whole sequences (kernels/ops/attention.h), whichever way their rows are dealt over ranks. cp: null, or
// of one rank: they are not. largest: of what this rank computes; the maximum over the ranks is that of whole
// sequences.
Var context_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel* cp,
                      std::span<float> largest = {});

}  // namespace deepflow
