#pragma once

#include "checkpoint/blockstore/manifest.h"
#include "core/state.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// What a rank holds of one logical tensor: a StateEntry without its value.
struct HeldEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  Reshard rule = Reshard::kSlice;
  int contributor = 0;
  std::vector<Box> boxes;
};
std::vector<HeldEntry> held_entries(StateOwner& owner);
std::string to_text(const std::vector<HeldEntry>& entries);  // for the other ranks
std::vector<HeldEntry> entries_from_text(const std::string& text);

// A box that one writer stores.
struct PlannedSlice {
  size_t tensor;  // of SavePlan::tensors
  int contributor;
  Box box;
  int writer;    // rank * writers_per_rank + its number there
  size_t entry;  // of the writing rank, in the order of its entries
};

// Who writes what of a checkpoint. Every element of every tensor is stored once (of sums, once for each contributor),
// however many ranks hold it, and the bytes are spread evenly over the writers that hold them. The same entries give
// the same plan.
struct SavePlan {
  std::vector<StoredTensor> tensors;  // by name, without slices
  std::vector<PlannedSlice> slices;   // by tensor
  int num_writers = 1;
  int64_t bytes_of_rank(int rank, int writers_per_rank) const;
};

// Throws ConfigError where ranks tell different things of a tensor: our own bug, or ranks of different programs.
SavePlan plan_save(const std::vector<std::vector<HeldEntry>>& of_rank, int writers_per_rank);

}  // namespace deepflow
