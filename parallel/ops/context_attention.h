#pragma once

#include "kernels/ops/attention.h"
#include "parallel/context_parallel.h"

namespace deepflow {

// `attention` of whole sequences (kernels/ops/attention.h), whichever way their rows are dealt over ranks. cp: null, or
// of one rank: they are not.
Var context_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel* cp);

}  // namespace deepflow
