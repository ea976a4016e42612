#pragma once

#include "checkpoint/checkpoint_options.h"
#include "data/data_options.h"
#include "engine/sampling.h"
#include "engine/train_options.h"
#include "models/options.h"
#include "optim/optim_options.h"
#include "parallel/parallel_options.h"

namespace deepflow {

// A recipe: everything that a run is told. A section is one member here and one line in declare(); what its keys mean
// stands beside its own struct, in the folder that it configures.
struct RunOptions {
  ModelOptions model;
  DataOptions data;
  TrainOptions train;
  OptimOptions optim;
  ParallelOptions parallel;
  SamplingOptions generate;
  CheckpointOptions checkpoint;
  LogOptions log;
  RunFolderOptions run;
};
void declare(OptionGroup& group, RunOptions& options);

}  // namespace deepflow
