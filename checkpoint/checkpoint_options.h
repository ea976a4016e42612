#pragma once

#include "core/option_group.h"

#include <cstdint>
#include <string>

namespace deepflow {

// The `checkpoint` section.
struct CheckpointOptions {
  std::string dir;              // "": run.dir/checkpoints
  int64_t every = 0;            // steps; 0: never
  int64_t keep = 2;             // newest; 0: all
  int64_t keep_every = 0;       // besides, those of steps that are multiples; 0: none
  std::string resume = "auto";  // "auto", "never", or a checkpoint
  std::string codec = "auto";
  bool differences = true;
  bool async = true;
  int threads = 1;
};
void declare(OptionGroup& group, CheckpointOptions& options);

}  // namespace deepflow
