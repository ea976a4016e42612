#pragma once

#include "core/option.h"

#include <cstdint>
#include <optional>
#include <string>

namespace deepflow {

// The `train` section of a recipe.
struct TrainOptions {
  int64_t steps = 100;
  int64_t global_batch = 32;           // sequences of one step, over all ranks
  std::optional<int64_t> micro_batch;  // sequences of one forward and backward pass on one rank
  std::string precision = "bf16";
  uint64_t seed = 1234;
  int threads = 0;  // of a rank; 0: the cores it may use
  bool pin_threads = true;
  std::string cpu_isa = "auto";
  std::string weight_forms = "auto";
  std::optional<double> memory_budget;  // GB of a rank, for model.recompute auto
  int64_t eval_every = 0;               // steps; 0: before and after the run only
  int64_t eval_windows = 0;             // of the held-out store; 0: all
  int64_t bucket_elements = int64_t{1} << 20;
  std::string offload_optimizer;  // folder of a file that holds the optimizer state; empty: memory
};
void declare(OptionGroup& group, TrainOptions& options);

// The `log` section.
struct LogOptions {
  int64_t every = 10;  // steps between lines where there is no live line
  bool tensorboard = true;
  int64_t trace_from = 0;  // first traced step; 0: none
  int64_t trace_steps = 3;
  bool comm_bytes = false;
};
void declare(OptionGroup& group, LogOptions& options);

// The `run` section: where a run leaves what it makes.
struct RunFolderOptions {
  std::string dir = "runs/run";
};
void declare(OptionGroup& group, RunFolderOptions& options);

}  // namespace deepflow
