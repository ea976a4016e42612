#pragma once

#include "core/context.h"
#include "parallel/tensor_parallel.h"

namespace deepflow {

// `embedding` (kernels/ops/embedding.h), bit for bit, with the vocabulary cut over the n ranks of tp: the table's pack
// holds this rank's rows, dealt as Split{.even = false} does. tokens i32 [M], all of them on every rank. x f32: without
// sequence [M, D] on all ranks, with it the dealt rows. `positions` is whole on every rank; its gradient is complete
// without sequence, and with it only what the dealt rows bring: partial over tp. Throws DataError for a token outside
// the whole vocabulary, on all ranks. Without a cut (is_split): `embedding`.
//
// Every row is owned by one rank, so rows are passed, not summed: the owner sends a row to the rank that it is dealt
// to, and without sequence the dealt rows are then gathered. Backward with sequence sends the gradient of a row back to
// its owner, on its way while other work goes on until backward_weight; without sequence it is there already.
//
// Payload that one call makes a rank send, in f32, where m of the M tokens are its own (M / n of them on average):
//     with sequence:    about m D (n - 1) / n forward, M D / n (n - 1) / n backward
//     without:          about m D (n - 1) / n + M D (n - 1) / n forward, nothing backward
Var vocabulary_embedding(ForwardContext& context, const Tensor& tokens, Pack& table, Pack* positions,
                         const TensorParallel& tp);

}  // namespace deepflow
