#pragma once

#include "core/dtype.h"
#include "models/model.h"
#include "parallel/context_parallel.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// When gradients hold memory (docs/memory.md).
enum class GradientMemory : uint8_t {
  kGrows,  // no micro-batch begins behind the first backward: it grows while backward frees activations
  kStays,  // otherwise: it is there when the activations are most
};

// What the activations of a rank follow from.
struct PassShape {
  ModelShape model;
  int64_t layers = 0;  // of this rank
  bool has_embedding = true, has_head = true;
  DType compute = DType::kF32;
  int64_t sequence = 0;            // tokens of a sequence
  int64_t rows = 0;                // tokens of a micro-batch, whole sequences, all of them
  int tp = 1, cp = 1;              // ranks that split matrices, and rows
  bool sequence_parallel = false;  // the tp ranks split the rows of the residual stream as well
  bool overlap = true;             // and pass them on in rings
  ContextMethod cp_method = ContextMethod::kRing;
  int threads = 1;    // of this rank
  int in_flight = 1;  // micro-batches whose activations are held at once (pipelines)
  GradientMemory gradients = GradientMemory::kGrows;
  int64_t bucket_elements = 1;   // gradients take memory in pieces of this many
  int gradient_shards = 1;       // ranks among which gradients are cut (ZeRO-2)
  int64_t travelling_bytes = 0;  // of gradients that are whole for a while, where they are cut
};

// Bytes that one block keeps of one micro-batch between its forward and its backward.
int64_t kept_bytes(const PassShape& shape, Recompute policy);

// Elements of this rank's gradients.
int64_t gradient_elements(const PassShape& shape);

// Most bytes that activations, messages between stages, the temporaries of backward and, where they grow, gradients
// take at once: the kept bytes of every block and micro-batch in flight, then one backward walked op by op. `policies`
// has one entry a layer of this rank, none of them kAuto. Bias gradients are left out.
int64_t peak_activation_bytes(const PassShape& shape, const std::vector<Recompute>& policies);

}  // namespace deepflow
