#pragma once

#include "optim/optimizer.h"

namespace deepflow {

// Stochastic gradient descent with momentum, Nesterov's or not; weight decay coupled, as torch.optim.SGD has it.
std::unique_ptr<Optimizer> make_sgd(const OptimOptions& options, OptimizerDomain domain);
int64_t sgd_state_bytes(const OptimOptions& options, const ShardPiece& piece);

}  // namespace deepflow
