#pragma once

#include "engine/train_options.h"

#include <cstdint>

namespace deepflow {

// Sequences of one forward and backward pass on one of `num_ranks` that see different data: train.micro_batch, or else
// the largest divisor of the rank's share whose rows and logits stay within bounds and of which there are enough to
// fill the stages of the pipeline. Throws ConfigError when the batch does not divide.
int64_t choose_micro_batch(const TrainOptions& train, int num_ranks, int64_t sequence, int64_t vocabulary,
                           int num_stages);

}  // namespace deepflow
