#pragma once

#include "core/context.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// Where rows go whose experts are chosen: every choice (row m, number j) that is not dropped gets a slot; slots are
// sorted by expert, and those of an expert are in order of rows, then of j.
struct Dispatch {
  Tensor expert;               // i32 [M, k]; -1: dropped
  std::vector<int64_t> begin;  // expert e has slots [begin[e], begin[e + 1]); E + 1 entries
  Tensor source;               // i32 [R]: row of x in each slot
  Tensor slot;                 // i32 [M, k]; -1: dropped
  int64_t num_slots() const { return begin.back(); }
};

// expert: i32 [M, k], entries -1 (dropped) or below num_experts.
Dispatch make_dispatch(Runtime& runtime, const Tensor& expert, int64_t num_experts);

// x [M, D] -> y [R, D], slot s a copy of row source[s]; the compute dtype. Backward: dx[m] is the sum over j of the
// gradients of its slots, in f32, in that order; zero where all were dropped. Where the context is selective the result
// has a recipe.
Var gather_rows(ForwardContext& context, const Var& x, const Dispatch& dispatch);

// y [R, D] in the compute dtype, weights f32 [M, k] -> [M, D]: the sum over j of weights[m, j] y[slot[m, j]], in f32,
// in that order, rounded once. Backward: gradients to y, and to the weights, 0 where dropped.
Var combine_rows(ForwardContext& context, const Var& y, const Var& weights, const Dispatch& dispatch);

}  // namespace deepflow
