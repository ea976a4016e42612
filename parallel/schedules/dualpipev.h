#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// DualPipeV (DeepSeek-AI 2025, github.com/deepseek-ai/DualPipe; "cut in half" of DualPipe, DeepSeek-V3 technical
// report, section 3.2.1): two chunks per rank in the shape of a V. In the steady state the forward of one chunk is
// woven with the whole backward of the other (kOverlapFB), so that each hides the communication of the other. Bubble (p
// - 1) (FB + B + W - 3 W) in chunk times, FB that of a woven pair, for m >= 2 p; 2 p + 1 activations of a chunk at
// most.
Schedule make_dualpipev(int num_ranks, int chunks_per_rank, int num_micro_batches);

}  // namespace deepflow
