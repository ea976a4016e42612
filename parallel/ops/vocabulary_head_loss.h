#pragma once

#include "kernels/ops/head_loss.h"
#include "parallel/tensor_parallel.h"

namespace deepflow {

// `head_loss` (kernels/ops/head_loss.h) with the vocabulary cut over the n ranks of tp: the head's pack holds this
// rank's rows, dealt as Split{.even = false} does, and the logits are never gathered (Shoeybi et al. 2019, section 3).
// M = context.rows.rows(). x: without sequence [M, D] on all ranks, with it the dealt rows; labels and weights of all M
// rows on every rank. nll [M] and the loss are the same on all ranks. The gradient of x is complete, for the rows that
// x has. DataError as head_loss, on all ranks; a logit that is not finite on one rank makes the loss so on all. Without
// a cut (is_split): `head_loss`.
//
// Every rank's log-sum-exp and label's logit, 8 bytes a row, are exchanged chunk by chunk behind the products of the
// next chunk. Memory is that of head_loss with V / n; with sequence all rows of x are kept until the weight gradient.
// The gradient of x is on its way when backward_input returns: in bf16 the weight gradient runs in front of its sum.
//
// Payload that one call makes a rank send, e the bytes of the compute dtype:
//     forward:  8 M (n - 1), and with sequence M / n D e (n - 1) for x
//     backward: with sequence M D e (n - 1) / n, without twice that
LossResult vocabulary_head_loss(ForwardContext& context, const Var& x, Pack& head, const Tensor& labels,
                                const Tensor& weights, const TensorParallel& tp, float softcap = 0);

// Logits f32 [M, V] on every rank, no tape; x as above, with sequence the dealt rows. A rank sends M V / n * 4 (n - 1)
// bytes, and with sequence x as above.
Tensor vocabulary_head_logits(ForwardContext& context, const Tensor& x, Pack& head, const TensorParallel& tp,
                              float softcap = 0);

}  // namespace deepflow
