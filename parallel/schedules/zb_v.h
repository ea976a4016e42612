#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// ZB-V (Qi et al. 2023, section 6, and 2024, Pipeline Parallelism with Controllable Memory, section 2): two chunks per
// rank in the shape of a V, backward split in two. In the steady state every rank repeats F B W of its first chunk,
// F B W of its second; the way into it and out of it fits without a gap when F = B = W.
// With F = B = W and m >= 2 p: no rank idles between its first and its last action; rank r begins r forwards of a chunk
// after rank 0 and ends as much later, so a step takes 6 m + p - 1. 2 p activations of a chunk at most, as 1F1B's p of
// two chunks each.
Schedule make_zb_v(int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
