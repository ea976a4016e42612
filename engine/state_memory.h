#pragma once

#include "core/context.h"
#include "core/parameter_registry.h"
#include "optim/optim_options.h"
#include "parallel/resident_store.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// What the state of a rank follows from. The registry is frozen.
struct StateInputs {
  Runtime& runtime;  // knows how large packed forms are
  ParameterRegistry& registry;
  ResidentStoreOptions store;
  ProductPrecision products = ProductPrecision::kCompute;
  bool reads_embedding_as_head = false;  // with the head on this rank
  OptimOptions optim;
  bool optimizer_in_file = false;
};

// Bytes of a rank (docs/memory.md).
struct StateMemory {
  int64_t model = 0;  // what the model holds beside parameters: tables of rotations
  int64_t masters = 0, optimizer = 0;
  int64_t forms = 0;      // with ZeRO-3 those of what is gathered, counted there
  int64_t gradients = 0;  // of a whole step
  // With ZeRO-2 and 3, gradients that are whole for a while during backward.
  int64_t travelling = 0;
  // With ZeRO-3: the two buckets that are gathered between steps; three in a row, one of them with its forms.
  int64_t gathered_ahead = 0, gathered_in_step = 0;
  int64_t update = 0;  // that the optimizer takes while it updates

  // Until the next one begins gradients stay.
  int64_t between_steps() const { return model + masters + optimizer + forms + gradients + gathered_ahead; }
  // From the first forward to the last backward, without gradients: those grow (engine/activation_memory.h).
  int64_t in_step() const { return model + masters + optimizer + forms + gathered_in_step; }
};

StateMemory state_memory(const StateInputs& inputs);

// What an optimizer keeps for these pieces.
int64_t optimizer_bytes(const OptimOptions& optim, const std::vector<ShardPiece>& pieces);

}  // namespace deepflow
