#pragma once

#include "optim/optimizer.h"

namespace deepflow {

// Chen et al. 2023 (Symbolic discovery of optimization algorithms): Lion, one f32 momentum per parameter. Every element
// moves by the learning rate, so that is to be 3 to 10 times smaller than AdamW's and the decay as much larger.
std::unique_ptr<Optimizer> make_lion(const OptimOptions& options, OptimizerDomain domain);
int64_t lion_state_bytes(const OptimOptions& options, const ShardPiece& piece);

}  // namespace deepflow
