#pragma once

#include "core/parameter_registry.h"
#include "engine/activation_memory.h"
#include "engine/train_options.h"
#include "parallel/communicator.h"
#include "parallel/resident_store.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// What of a rank's state the layout shares out.
struct StateShape {
  int64_t elements = 0;  // of this rank's parameters
  int zero = 1;          // docs/memory.md; 0 to 3
  int shards = 1;        // ranks among which ZeRO shares
  DType compute = DType::kF32;
  FormsKept forms = FormsKept::kAll;
  GradientMemory gradients = GradientMemory::kGrows;
};
// Masters, two moments, derived forms, and gradients where they stay.
int64_t state_bytes(const StateShape& shape);

struct MemoryPlan {
  std::vector<Recompute> policies;  // of this rank's layers
  int64_t activations = 0, state = 0, budget = 0;
  int64_t total() const { return activations + state; }
  int64_t count(Recompute policy) const;
};

// The cheapest policies with which activations and state fit the budget (bytes): none recomputed, else the first k
// blocks selectively, else all of them and the first k in full. Blocks at the front are recomputed because theirs is
// the backward that comes last, when the rest has been given back. Throws ConfigError when nothing fits.
MemoryPlan plan_memory(const PassShape& shape, int64_t state, int64_t budget);

// What a training run tells of itself.
struct TrainingMemory {
  TrainOptions train;
  int64_t sequence = 0;
};

// This rank's part of the layout.
struct RankLayout {
  const ModelShape& model;
  const ParameterRegistry& registry;  // frozen
  std::vector<LayerRange> chunks;     // of this rank; the first of the model embeds, the last has the head
  int tp = 1, cp = 1;
  bool sequence_parallel = false;
  int data_ranks = 1;  // that see different samples
  int num_stages = 1;  // of the pipeline
  int zero = 1;
  int shards = 1;         // ranks among which ZeRO shares
  int64_t in_flight = 1;  // passes through its chunks whose activations are held at once, in full chunks
  DType compute = DType::kF32;
  FormsKept forms = FormsKept::kAll;
  int threads = 1;
};

// Ranks agree on the strictest policy of each layer: recomputation runs collectives again. Collective; `policies` has
// an entry for every layer of the model, kNone for those of others.
std::vector<Recompute> strictest(Communicator& comm, const std::vector<Recompute>& policies);

// The plan of a rank, with a policy for every layer of the model. share: bytes that the rank may count on
// (engine/form_choice.h), of which two thirds are the budget when none is given; 0: unknown, and nothing is recomputed.
MemoryPlan plan_training(const TrainingMemory& run, const RankLayout& layout, int64_t share);

}  // namespace deepflow
