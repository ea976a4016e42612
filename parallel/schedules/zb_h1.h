#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// ZB-H1 (Qi et al. 2023, Zero Bubble Pipeline Parallelism, section 3.1): 1F1B whose backward is split, so that the
// rank before gets its gradient sooner, and rank r puts off weight gradients by r micro-batches to fill what was the
// bubble at the end. One chunk per rank.
// With F = B = W: bubble (p - 1) / (3 m + p - 1), a third of 1F1B's time, for m >= p; min(m, p) activations per rank.
Schedule make_zb_h1(int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
