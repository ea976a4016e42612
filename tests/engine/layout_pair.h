#pragma once

#include "checkpoint/checkpoint_options.h"
#include "tests/engine/random_layout.h"

#include <cstdint>
#include <string>

namespace deepflow::testing {

// A run that is saved on one layout and goes on on another.
struct LayoutPair {
  TinyOptions first, second;  // the same model, data and optimizer
  int first_ranks = 1, second_ranks = 1;
  int steps_before = 1, steps_after = 1;
  CheckpointOptions checkpoint;  // but for the folder
  int64_t drawn = 0;             // pairs, until there was one whose model both layouts can split
  std::string text;              // all that was drawn
  int steps() const { return steps_before + steps_after; }
};

// Pair number `index` of a seed; one of its layouts fills num_ranks, a power of two, the other as many or fewer. A pure
// function. In f32, or in f16 or bf16: then both layouts are the same, since sums of another order round to other
// values there. At most most_steps steps; fewer with adamw8bit, where two orders of a sum round a moment to
// neighbouring codes before long.
LayoutPair draw_pair(uint64_t seed, int64_t index, int num_ranks, int most_steps);

}  // namespace deepflow::testing
