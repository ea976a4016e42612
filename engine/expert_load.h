#pragma once

#include "engine/machine.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// How the experts of one layer were used in a step, over all ranks and micro-batches. The same bits on every layout,
// but for the losses and what is sent.
struct ExpertLoad {
  std::string layer;                    // "layers.3.moe"
  std::vector<int64_t> tokens;          // choices that fell on each expert, dropped ones included
  int64_t dropped = 0;                  // choices
  double balance_loss = 0, z_loss = 0;  // as the step's gradient counts them
  int64_t sent =
      0;  // rows that went to experts of other ranks, once for each part of each choice: as the layout has it
  double closest = 0;  // how narrowly this rank's rows chose (kernels/ops/closest_choice.h); of no other rank

  int64_t total() const;
  double imbalance() const;      // the largest load over the mean one: 1 when they are even
  double entropy() const;        // of the shares, over its largest, log E: 1 when they are even
  double dropped_share() const;  // of all choices
};

// One of each layer of experts, in order of layers, out of what this rank's passes of a step reported. Collective.
std::vector<ExpertLoad> sum_expert_loads(const Machine& machine, const StatisticsSink& statistics);

// Balance without a loss (DeepSeek-V3, section 2.1.2): what this rank keeps of each router's bias rises by its rate
// where the expert's load is below the mean, and falls where it is above. Between the optimizer's update and the
// exchange of the masters.
void move_router_biases(const Machine& machine, const std::vector<ExpertLoad>& loads);

}  // namespace deepflow
