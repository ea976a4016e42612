#pragma once

#include "optim/optimizer.h"

namespace deepflow {

// Jordan et al. 2024 (Muon): the momentum of every hidden matrix (roles kMatrix, kExpert and kRouter; q, k, v, gate, up
// and each expert are matrices of their own) is brought near to an orthogonal one (kernels/ops/newton_schulz.h) and
// scaled as MuonOptions::scale says. All other parameters are AdamW's, with optim.beta1, beta2 and eps. Decay is
// decoupled for all.
//
// ZeRO cuts between matrices, so an owner has all of its matrix. Where tensor parallelism splits one, its parts travel
// to one of the ranks that have them, in turns so that all work at once, and the result back: what an iteration sees is
// the same on any layout. While matrices travel, a rank holds two of its own in addition to the products of one.
std::unique_ptr<Optimizer> make_muon(const OptimOptions& options, OptimizerDomain domain);
int64_t muon_state_bytes(const OptimOptions& options, const ShardPiece& piece);
// What iterations take, and matrices that travel: those of the largest.
int64_t muon_update_bytes(const OptimOptions& options, DType compute, const std::vector<ShardPiece>& pieces);

}  // namespace deepflow
