#pragma once

#include "core/context.h"

namespace deepflow {

// What `embedding` and its form over ranks (parallel/ops/vocabulary_embedding.h) are made of. ids: i32 [M].

// Throw DataError for an id outside 0 .. limit - 1.
void check_token_ids(const Tensor& ids, int64_t limit);
void check_positions(const Tensor& ids, int64_t limit);

// A table f32 [.., cols], contiguous, and which rows of it are read.
struct TableRows {
  const Tensor& table;
  const Tensor& ids;
};
// x[i] = values.table[values.ids[i]] (+ places->table[places->ids[i]]); x f32 [M, cols], contiguous.
void read_rows(Runtime& runtime, const TableRows& values, const TableRows* places, Tensor& x);
// Adds dx[i], f32 [M, cols], to row ids[i] of the pack's gradient, every row in the order of i, and says that it has
// contributed.
void scatter_gradient(BackwardContext& context, Pack& pack, const Tensor& ids, const Tensor& dx);

}  // namespace deepflow
