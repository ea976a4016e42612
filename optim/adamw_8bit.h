#pragma once

#include "optim/optimizer.h"

namespace deepflow {

// AdamW whose moments of matrices, experts, routers and heads are kept in 8 bits (kernels/ops/adamw_8bit.h), in blocks
// of OptimOptions::block neighbouring elements of one logical row, each with two f32 scales. Embeddings keep f32
// moments (Dettmers et al. 2022, section 3: their gradients are too uneven), norms and biases as well.
//
// Blocks are cut at multiples of their size in logical columns, so no layout changes them. Making one throws
// ConfigError where tensor parallelism cuts the columns of a matrix inside a block.
std::unique_ptr<Optimizer> make_adamw_8bit(const OptimOptions& options, OptimizerDomain domain);
int64_t adamw_8bit_state_bytes(const OptimOptions& options, const ShardPiece& piece);

}  // namespace deepflow
