#pragma once

#include "core/option.h"
#include "optim/loss_scale.h"

#include <cstdint>
#include <string>

namespace deepflow {

// The `optim` section of a recipe.
struct OptimOptions {
  std::string name = "adamw";
  double lr = 3e-4;
  std::string schedule = "warmup_cosine";
  int64_t warmup = 0;     // steps
  int64_t decay = 0;      // steps of the final decay (wsd)
  double final_lr = 0.1;  // fraction of lr
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 0.1;
  double clip = 1.0;  // 0: none
  LossScaleOptions loss_scale;
};

void declare(OptionGroup& group, OptimOptions& options);

}  // namespace deepflow
