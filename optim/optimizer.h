#pragma once

#include "core/state.h"
#include "optim/optim_options.h"
#include "parallel/gradient_domains.h"
#include "parallel/resident_store.h"
#include "parallel/shard_map.h"

#include <memory>
#include <string>
#include <vector>

namespace deepflow {

struct UpdateStep {
  int64_t step = 1;  // 1 at the first update
  double lr = 0;
  float gradient_scale = 1;  // clipping
};

// Updates the masters of this rank's pieces from their gradients and marks every pack as written (update_tiles.h).
// Gathering the masters afterwards is the exchange's work. The gradients are the optimizer's to overwrite. Where a
// matrix is split over ranks, some optimizers look at all of it: then making one and updating are collective over
// OptimizerDomain::domains.
class Optimizer : public StateOwner {
 public:
  virtual void update(const UpdateStep& step) = 0;
};

// What an optimizer works on: the pieces of one rank's shard.
struct OptimizerDomain {
  Runtime& runtime;
  ResidentStore& store;
  std::vector<ShardPiece> pieces;
  std::string offload_dir;                   // folder of a file that holds the state instead of memory; empty: memory
  const GradientDomains* domains = nullptr;  // who has the other parts; null: this rank is alone
};

// Adding an optimizer: one file with a factory, one line in optimizer.cpp.
struct OptimizerEntry {
  const char* name;
  UpdateUnit unit;
  std::unique_ptr<Optimizer> (*make)(const OptimOptions&, OptimizerDomain);
  int64_t (*state_bytes)(const OptimOptions&, const ShardPiece&);
  // Bytes beside gradients and state that an update of these pieces takes at once; null: none worth counting.
  int64_t (*update_bytes)(const OptimOptions&, DType compute, const std::vector<ShardPiece>&);
};
const OptimizerEntry& find_optimizer(const std::string& name);
std::vector<std::string> optimizer_names();

// This rank's pieces without those of Role::kBuffer, which no optimizer moves.
std::vector<ShardPiece> optimized_pieces(std::vector<ShardPiece> pieces);

// Weight decay applies to matrices, experts, embeddings, heads and routers; not to norms and biases.
bool decays(Role role);

}  // namespace deepflow
