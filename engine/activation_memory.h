#pragma once

#include "core/dtype.h"
#include "models/model.h"
#include "parallel/context_parallel.h"
#include "parallel/schedule.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// One of a rank's chunks of the model.
struct ChunkShape {
  int id = 0;  // as the schedule has it
  int64_t layers = 0;
  bool has_embedding = true, has_head = true;
  int64_t first = 0;  // its first layer, by its number in the model
};

// What the activations of a rank follow from.
struct PassShape {
  ModelShape model;
  std::vector<ChunkShape> chunks = {ChunkShape{}};  // of this rank
  // This rank's step, lowered; empty: forward and backward of one micro-batch through its only chunk.
  std::vector<Action> actions;
  DType compute = DType::kF32;
  int64_t sequence = 0;            // tokens of a sequence
  int64_t rows = 0;                // tokens of a micro-batch, whole sequences, all of them
  int tp = 1, cp = 1;              // ranks that split matrices, and rows
  bool sequence_parallel = false;  // the tp ranks split the rows of the residual stream as well
  bool overlap = true;             // and pass them on in rings
  ContextMethod cp_method = ContextMethod::kRing;
  int expert_ranks = 1, etp = 1;  // ranks that share the experts, of them those that share the matrices of each
  // Rows that this rank's experts get, over their even share: in each of its layers, or one number for all of them.
  std::vector<double> expert_load = {1};
  int threads = 1;                 // of this rank
  int64_t table_rows = 0;          // of the vocabulary, here, with padding; 0: as the rank has that has most
  bool makes_forms_again = false;  // packed weights for input gradients, for each use (train.weight_forms: forward)
  int64_t bucket_elements = 1;     // gradients take memory in pieces of this many
  int64_t gradient_bytes = 0;      // of a whole step; 0: four for each element of a matrix
  int64_t travelling_bytes = 0;    // of gradients that are whole for a while, where they are cut (ZeRO-2)
  int64_t layers() const;
};

// What the blocks of this rank follow from, in the order of its chunks: `shape` with the load of the one layer, and
// without experts where it has none. No chunks and no actions.
std::vector<PassShape> layer_shapes(const PassShape& shape);

// Bytes that one block, the first of `shape.expert_load` if it has experts, keeps of one micro-batch between its
// forward and its backward.
int64_t kept_bytes(const PassShape& shape, Recompute policy);

// Elements of this rank's gradients.
int64_t gradient_elements(const PassShape& shape);

// Most bytes that activations, messages between stages, the temporaries of backward and gradients take at once: the
// schedule action by action, each backward op by op. `policies` has one entry a layer of this rank, in the order of its
// chunks, none of them kAuto. Bias gradients are left out.
int64_t peak_activation_bytes(const PassShape& shape, const std::vector<Recompute>& policies);

}  // namespace deepflow
