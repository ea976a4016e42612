#pragma once

#include "core/context.h"
#include "parallel/ops/deal.h"

#include <string>

namespace deepflow {

// Rows between the two states of sequence parallelism: all M = context.rows.rows() rows on every rank of the group, or
// the dealt rows of each (struct TensorParallel). n ranks; one transfer of [M, D] is M D (n - 1) / n elements that a
// rank sends, in the dtype of x.

// All rows [M, D] from every rank's dealt ones. The gradient of each rank is one summand: reduce-scattered in backward.
// One transfer forward, one backward.
Var gather_rows(ForwardContext& context, const Var& x, const TensorParallel& tp);
// This rank's dealt rows of the sum of x [M, D] over the ranks; the gradient is gathered in backward. One transfer
// forward, one backward.
Var scatter_rows(ForwardContext& context, const Var& x, const TensorParallel& tp);

// Rows [M, D] that all ranks have alike, for readers of which each rank has a part: the gradient of each rank is one
// summand, all-reduced in backward. One all-reduce backward.
Var share_rows(ForwardContext& context, const Var& x, const TensorParallel& tp);

// The same two states of rows that all ranks have alike, for what is computed row by row and only once: with n ranks
// each works on its dealt rows. Every rank reads the result, and has the gradient, of all M rows.
// This rank's dealt rows of x [M, D]; the gradient is gathered in backward. One transfer backward.
Var split_rows(ForwardContext& context, const Var& x, const TensorParallel& tp);
// All rows from every rank's dealt ones; the gradient is this rank's part. One transfer forward.
Var join_rows(ForwardContext& context, const Var& x, const TensorParallel& tp);

// The transfers themselves, under way.
struct ArrivingRows {
  Tensor rows;
  WorkPtr work;
  Tensor wait(Stream& stream) const {
    work->wait(stream);
    return rows;
  }
};
// own: this rank's rows; a matrix with a row stride is copied first.
ArrivingRows begin_gather(Runtime& runtime, const TensorParallel& tp, const Deal& deal, const Tensor& own,
                          const std::string& name);
// x [M, D], contiguous: in it the ranks' summands are added in rank order, in f32, and rounded once.
ArrivingRows begin_reduce_scatter(Runtime& runtime, const TensorParallel& tp, const Deal& deal, const Tensor& x,
                                  const std::string& name);
Tensor contiguous_rows(Runtime& runtime, const Tensor& x);

}  // namespace deepflow
