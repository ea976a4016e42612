#pragma once

#include "core/context.h"
#include "parallel/tensor_parallel.h"

namespace deepflow {

// `linear` (kernels/ops/linear.h) with its matrix cut over the n ranks of tp: Shoeybi et al., "Megatron-LM", 2019,
// section 3, and with tp.sequence Korthikanti et al., "Reducing activation recomputation in large transformer models",
// 2022, section 4.2.2. M = context.rows.rows(). Without a cut (is_split) both are `linear`.
//
// With sequence and overlap the rows travel in the rings of parallel/ops/row_ring.h, part by part, while the
// rows that are here are multiplied; the last addition of an input gradient waits behind the weight gradient.
// Without overlap: a collective, then one product; the same results up to rounding.
//
// Summands travel in the compute dtype, as in Megatron. In bf16 each is rounded once; the collectives add them in f32
// and round once more, the rings round at each of the n - 1 additions. The order is fixed: the same bits every run.
//
// Payload that one call makes a rank send, in elements of the compute dtype (forward + backward), d the extent that is
// not cut (in for column, out for row):
//     column, replicated rows     0                 + 2 M d (n - 1) / n   (all-reduce of dx)
//     column, sequence            M d (n - 1) / n   + 2 M d (n - 1) / n   (x; x again, and dx)
//     row,    replicated rows     2 M d (n - 1) / n + 0                   (all-reduce of y)
//     row,    sequence            M d (n - 1) / n   + M d (n - 1) / n     (y; dy)
// Backward keeps x as kernels/ops/kept_input.h says: where x has a recipe, that, and makes x again.
//
// An all-reduce of up to 256 KiB / n goes whole to every other rank instead: M d (n - 1), in one exchange.

// The pack holds this rank's rows of W, the bias its part: y [M, out_local].
// Without sequence x [M, in] is the same on all ranks, and dx is on its way when backward_input returns: the weight
// gradient runs in front of its sum. With sequence x holds the dealt rows; only they are kept for backward, which
// gathers x again (into [M, in], until backward_weight) behind the products of dx. dW and db are complete.
Var column_parallel_linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias, const TensorParallel& tp);

// The pack holds this rank's columns of W, the bias all of it: x [M, in_local], y the sum over the ranks, plus the bias
// once. Without sequence y [M, out] is the same on all ranks, dW and db are complete. With sequence y holds the dealt
// rows; dW is complete, db only what these rows bring: partial over tp.
Var row_parallel_linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias, const TensorParallel& tp);

}  // namespace deepflow
