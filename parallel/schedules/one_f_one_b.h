#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// 1F1B (Narayanan et al. 2019, PipeDream; with a flush, Narayanan et al. 2021, section 2.2.1): rank r runs p - 1 - r
// forwards ahead, then alternates. One chunk per rank.
// With F + B + W alike everywhere: bubble (p - 1) / (m + p - 1), min(m, p - r) activations on rank r.
Schedule make_1f1b(int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
