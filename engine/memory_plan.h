#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "engine/activation_memory.h"
#include "engine/state_memory.h"
#include "engine/train_options.h"
#include "optim/optim_options.h"
#include "parallel/communicator.h"
#include "parallel/resident_store.h"
#include "parallel/schedule.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace deepflow {

struct MemoryPlan {
  std::vector<Recompute> policies;  // of this rank's layers
  int64_t activations = 0;          // with gradients, or what the update takes with them
  int64_t state = 0, budget = 0;
  int64_t total() const { return activations + state; }
  int64_t count(Recompute policy) const;
  std::string describe() const;  // "2 of 6 blocks selective, 0.41 GB of 0.50 GB"
};

// The cheapest policies with which activations and state fit the budget (bytes): none recomputed, else the first k
// blocks selectively, else all of them and the first k in full. Blocks at the front are recomputed because theirs is
// the backward that comes last, when the rest has been given back. Throws ConfigError when nothing fits.
MemoryPlan plan_memory(const PassShape& shape, const StateMemory& state, int64_t budget);

// What a training run tells of itself.
struct TrainingMemory {
  TrainOptions train;
  int64_t sequence = 0;
  OptimOptions optim;
};

// A chunk of this rank, by its number in the model.
struct OwnChunk {
  int id = 0;
  LayerRange layers;
};

// This rank's part of the layout.
struct RankLayout {
  const ModelShape& model;
  Runtime& runtime;
  ParameterRegistry& registry;   // frozen
  std::vector<OwnChunk> chunks;  // of this rank; the first of the model embeds, the last has the head
  ResidentStoreOptions store;
  int64_t model_bytes = 0;  // that the model holds beside its parameters
  ProductPrecision products = ProductPrecision::kCompute;
  int tp = 1, cp = 1;
  bool sequence_parallel = false, overlap = true;
  ContextMethod cp_method = ContextMethod::kRing;
  int data_ranks = 1;  // that see different samples
  int num_stages = 1;  // of the pipeline
  int expert_ranks = 1, etp = 1;
  // This rank's step of so many micro-batches, lowered; empty: they follow one another through one chunk.
  std::function<std::vector<Action>(int micro_batches)> actions;
};

// What a training step of this rank follows from.
PassShape pass_shape(const TrainingMemory& run, const RankLayout& layout);
StateMemory layout_state(const TrainingMemory& run, const RankLayout& layout);
// Most bytes that a step takes on top of state.in_step(): those of its passes, or of the update behind them.
int64_t step_bytes(const PassShape& pass, const StateMemory& state, const std::vector<Recompute>& policies);

// Ranks agree on the strictest policy of each layer: recomputation runs collectives again. Collective; `policies` has
// an entry for every layer of the model, kNone for those of others.
std::vector<Recompute> strictest(Communicator& comm, const std::vector<Recompute>& policies);

// The plan of a rank, with a policy for each of its layers. share: bytes that the rank may count on
// (engine/form_choice.h), of which two thirds are the budget when none is given; 0: unknown, and nothing is recomputed.
MemoryPlan plan_training(const TrainingMemory& run, const RankLayout& layout, int64_t share);
// The plan that all ranks follow, with a policy for every layer of the model. Collective: where nothing fits a
// rank, all throw what the lowest such rank needs. The activations are this rank's.
MemoryPlan agree(Communicator& comm, const TrainingMemory& run, const RankLayout& layout, int64_t share);

}  // namespace deepflow
