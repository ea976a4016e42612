#pragma once

#include "core/context.h"
#include "kernels/ops/expert_rows.h"
#include "parallel/expert_parallel.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// Where the rows of all ranks of a group meet the experts, and how they come back: all-to-all with a different count
// for each pair of ranks. A row travels once for each of its experts and each part of it. Rows are multiplied in an
// order that depends on the layout; each result does not, but for gradients of weights, which are sums over rows.
struct ExpertExchange {
  Dispatch sent;                  // a slot for each part of each choice, by place in the group, then by expert
  std::vector<int64_t> to, from;  // rows to, and from, each place of the group
  Dispatch arrived;               // rows as they came, one choice each, sorted by local expert
  Dispatch leaving;               // the way back: rows sorted by local expert, in the order in which they came
};

// expert: i32 [M, k] of this rank's rows, -1: dropped. num_experts divides by the owners. Collective over the group;
// waits for the counts.
ExpertExchange plan_expert_exchange(ForwardContext& context, const Tensor& expert, int64_t num_experts,
                                    const ExpertParallel& ep);

// x [M, D] of this rank -> the rows of all ranks that chose this rank's experts, sorted by them: groups as
// exchange.arrived.begin. All in the compute dtype. One all-to-all forward, one backward.
Var rows_of_experts(ForwardContext& context, const Var& x, const ExpertExchange& exchange, const ExpertParallel& ep);

// What the experts made of them, on its way back. Whatever is computed until `arrive`, forward, runs beside the
// transfer; and what is recorded until then runs beside the transfer of the gradient.
class ReturningRows {
 public:
  ReturningRows(ForwardContext& context, const Var& outputs, const ExpertExchange& exchange, const ExpertParallel& ep);
  // [M, D]: the sum over a row's choices, and over the parts of each, with weights f32 [M, k].
  Var arrive(ForwardContext& context, const Var& weights) const;

 private:
  const ExpertExchange& exchange_;
  const ExpertParallel& ep_;
  Var sorted_;  // as they came
  Tensor rows_;
  WorkPtr work_;
};

}  // namespace deepflow
