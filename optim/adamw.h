#pragma once

#include "optim/optimizer.h"

namespace deepflow {

// Loshchilov & Hutter 2019: AdamW, two f32 moments per parameter.
std::unique_ptr<Optimizer> make_adamw(const OptimOptions& options, OptimizerDomain domain);
int64_t adamw_state_bytes(const OptimOptions& options, const ShardPiece& piece);

}  // namespace deepflow
