#pragma once

#include "core/dtype.h"
#include "engine/activation_memory.h"
#include "optim/optim_options.h"
#include "parallel/form_cache.h"
#include "parallel/gradient_domains.h"

#include <cstdint>

namespace deepflow {

// What of a rank's state the layout shares out.
struct StateShape {
  int64_t elements = 0;          // of this rank's parameters
  int64_t product_elements = 0;  // of those that products read, which have derived forms
  int zero = 1;                  // docs/memory.md; 0 to 3
  int shards = 1;                // ranks among which ZeRO shares
  int64_t optimizer = 0;         // bytes that the optimizer keeps in memory for them, before ZeRO shares them out
  DType compute = DType::kF32;
  FormsKept forms = FormsKept::kAll;
  GradientMemory gradients = GradientMemory::kGrows;
  // Of buckets, with ZeRO-2 and 3:
  int64_t travelling_bytes = 0;  // gradients that are whole for a while during backward
  // With ZeRO-3: the two that are gathered between steps; three in a row, one of them with its forms.
  int64_t gathered_ahead = 0, gathered_in_step = 0;
};

// Fills in what follows from parameters and their buckets. shape: zero, shards, compute and forms are set. The registry
// is frozen; domains may be null.
void count_parameters(StateShape& shape, ParameterRegistry& registry, const GradientDomains* domains,
                      int64_t bucket_elements);

// What an optimizer keeps for the parameters that this rank reads.
int64_t optimizer_bytes(const OptimOptions& optim, const ParameterRegistry& registry);

// Bytes of masters, optimizer state and derived forms, gradients where they stay, and what ZeRO-3 has gathered.
int64_t state_bytes(const StateShape& shape);    // between steps
int64_t state_in_step(const StateShape& shape);  // from the first forward pass to the last backward

}  // namespace deepflow
