#pragma once

#include "kernels/ops/attention.h"
#include "parallel/context_parallel.h"

namespace deepflow {

// `attention` (kernels/ops/attention.h) of whole sequences whose rows are dealt over the ranks of cp.comm: qkv and o
// are the local rows, context.rows.spans says which of the whole sequence they are, document_start and shape.window
// count rows of the whole sequence. Collective, forward and backward: every rank records and runs it in the same order.
//
// Liu et al. 2023 (Ring Attention with Blockwise Transformers): keys and values travel round the ranks, the message for
// the next step while this one is computed; the online softmax goes on from step to step in f32. Pairs of spans without
// an unmasked entry are not computed (ring_plan.h), the message is forwarded all the same. In backward gradients of
// keys and values follow them one step behind, also behind the computation. They travel in f32: every rank on the way
// adds its share, and a sum rounded to 8 bits at each of them would lose more than the products that it is made of.
//
// Memory: two buffers of keys and values; forward f32 sums like o (none for f32), backward one f32 [M, columns of qkv]
// and up to three f32 buffers of gradients that travel. Kept for backward: qkv, o and the log-sum-exp, all local.
// Bytes that a rank sends, with n ranks, M local rows, e bytes an element, c = kv_heads * (head_dim + value_dim):
//   forward (n - 1) M c e, backward (n - 1) M c (e + 4).
// largest: of the local rows.
Var ring_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel& cp,
                   std::span<float> largest = {});

}  // namespace deepflow
