#pragma once

#include "optim/optim_options.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

std::vector<std::string> learning_rate_schedules();

// Learning rate of step `step` (1 .. total_steps). Warm-up rises linearly and reaches lr at step `warmup`; the decay
// reaches final_lr * lr at the last step. A run shorter than its warm-up ends inside it; a decay longer than what
// warm-up leaves begins right behind it.
double learning_rate(const OptimOptions& options, int64_t step, int64_t total_steps);

}  // namespace deepflow
