#pragma once

#include "core/option.h"
#include "engine/evaluator.h"
#include "engine/run_options.h"
#include "parallel/bootstrap.h"

#include <optional>
#include <string>

namespace deepflow {

struct TrainingResult {
  std::optional<Evaluation> before, after;  // with data.heldout
  std::string model_folder;                 // Hugging Face folder with the trained weights
};

// A whole run: opens data and model, trains, evaluates, reports, and leaves in run.dir the resolved recipe
// (recipe.yaml), metrics.jsonl, TensorBoard events, loss.svg, perhaps trace.json, and the model as a Hugging Face
// folder. Collective over the world. `keys` are the recipe's, for messages; `resolved` writes them when all is filled
// in.
TrainingResult run_training(RunOptions& options, const OptionGroup& keys, World& world);

}  // namespace deepflow
