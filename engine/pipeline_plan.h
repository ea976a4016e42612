#pragma once

#include "parallel/parallel_options.h"
#include "parallel/schedule.h"

#include <string>
#include <vector>

namespace deepflow {

// The recipe's pipeline for so many micro-batches, lowered. Throws ConfigError when the schedule cannot be.
Schedule plan_pipeline(const ParallelOptions& options, int num_micro_batches);
// Which stage has each chunk: the same for any number of micro-batches.
std::vector<int> chunk_stages(const ParallelOptions& options);
// One line for people: "1f1b, 4 stages x 1 chunk, layers 3 4 4 3, planned bubble 27 %", with forward, input gradient
// and weight gradient of every chunk taken as equally long. options.layers: of each chunk.
std::string describe_pipeline(const ParallelOptions& options, int num_micro_batches);
// Forward passes alone (evaluation), lowered.
Schedule plan_forward(const std::vector<int>& rank_of_chunk, int num_stages, int num_micro_batches);

}  // namespace deepflow
