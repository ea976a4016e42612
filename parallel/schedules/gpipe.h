#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// GPipe (Huang et al. 2019, section 2.3): every forward, then every backward. One chunk per rank.
// With F + B + W alike everywhere: bubble (p - 1) / (m + p - 1), m activations on every rank.
Schedule make_gpipe(int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
