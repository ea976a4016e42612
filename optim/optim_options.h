#pragma once

#include "core/option.h"
#include "optim/loss_scale.h"

#include <cstdint>
#include <string>

namespace deepflow {

// `optim.muon` of a recipe (optim/muon.h).
struct MuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  int64_t steps = 5;
  std::string scale = "moonlight";
  std::string precision = "auto";
  double adamw_lr = 1;  // fraction of lr
};
void declare(OptionGroup& group, MuonOptions& options);

// `optim.adafactor` (optim/adafactor.h).
struct AdafactorOptions {
  double decay = 0.8;  // exponent
  double clip = 1;     // 0: none
  bool parameter_scale = true, relative_step = false;
};
void declare(OptionGroup& group, AdafactorOptions& options);

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
  double clip = 1.0;   // 0: none
  double qk_clip = 0;  // largest score of attention (engine/qk_clip.h); 0: none
  int64_t block = 64;  // elements that adamw8bit quantises together
  MuonOptions muon;
  AdafactorOptions adafactor;
  LossScaleOptions loss_scale;
};

void declare(OptionGroup& group, OptimOptions& options);

}  // namespace deepflow
