#pragma once

#include "data/heldout.h"
#include "engine/machine.h"

namespace deepflow {

struct Evaluation {
  double loss = 0;           // nats a label, mean
  double perplexity = 0;     // exp(loss)
  double bits_per_byte = 0;  // of the store's text; 0 when the store does not say how many bytes it came from
  int64_t num_labels = 0;
};

// Reads the first `windows` windows (0: all) of the held-out store once, shared over the data-parallel
// ranks. Collective over the job.
// Of part of a store, bits per byte are extrapolated by the share of its labels.
Evaluation evaluate(Machine& machine, const HeldOut& heldout, int64_t windows, uint64_t seed);

}  // namespace deepflow
