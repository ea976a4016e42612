#pragma once

#include "kernels/ops/attention.h"
#include "parallel/context_parallel.h"

namespace deepflow {

// `attention` (kernels/ops/attention.h) of whole sequences whose rows are dealt over the ranks of cp.comm, one span to
// each: an all-to-all turns qkv of the local rows into qkv of whole sequences for 1/n of the heads, another one turns
// the result back (Jacobs et al. 2023, DeepSpeed-Ulysses). Contract, rows and masks as ring_attention. Collective,
// forward and backward. The heads divide by the ranks (check_context_parallel). Of fewer key heads than ranks every
// rank gets the one that its queries read; the gradients of the copies are summed at home, in f32, in the order of the
// ranks.
//
// Kept for backward: what `attention` keeps, of whole sequences and 1/n of the heads.
// Bytes that a rank sends, with n ranks, M local rows, e bytes an element, h = heads / n, k = max(1, kv_heads / n):
//   forward (n - 1) M e (head_dim + value_dim) (h + k), and (n - 1) 4 M for document_start; backward the same without
//   the latter.
// largest: of the heads that this rank sees whole sequences of, all rows; those of the others stay as they are.
Var ulysses_attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, const ContextParallel& cp,
                      std::span<float> largest = {});

}  // namespace deepflow
