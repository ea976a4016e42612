#pragma once

#include "engine/expert_load.h"
#include "engine/loss_curve.h"
#include "engine/progress.h"
#include "engine/tensorboard.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// What a run tells about its experts: in the progress line, in metrics.jsonl (docs/formats/metrics.md), in TensorBoard,
// and as a picture of the load over time.
class ExpertReport {
 public:
  // Nothing of it for a model without experts.
  void step(int64_t step, const std::vector<ExpertLoad>& loads);

  bool has_experts() const { return !loads_.empty(); }
  // Of the last step:
  void add_to(ProgressFigures& figures) const;
  nlohmann::json as_json() const;
  std::vector<TensorboardWriter::Scalar> scalars() const;
  // Of all steps: largest over mean load of the worst layer and of the mean one, as SVG.
  std::string picture() const;

 private:
  double worst_imbalance() const;
  double dropped_share() const;  // of all layers
  double balance_loss() const;
  double z_loss() const;

  std::vector<ExpertLoad> loads_;
  Curve worst_{"worst layer", {}}, mean_{"mean of the layers", {}};
};

}  // namespace deepflow
