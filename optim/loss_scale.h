#pragma once

#include "core/option.h"
#include "core/state.h"

#include <cstdint>

namespace deepflow {

// `optim.loss_scale` of a recipe.
struct LossScaleOptions {
  double init = 65536;             // init and min: powers of 2, init not below min
  int64_t growth_interval = 2000;  // steps
  double min = 1;
};
void declare(OptionGroup& group, LossScaleOptions& options);

// Dynamic loss scaling for training in f16: the seed of backward is the scale, which lifts small gradients of
// activations out of what f16 rounds to zero; the optimizer divides by it. A step whose gradient is not finite is left
// out and halves the scale, growth_interval steps without one double it (Micikevicius et al. 2018, section 3.2; the
// rules of torch.amp.GradScaler). Scales are powers of 2, so that they change no bit of a gradient that neither
// overflows nor is subnormal.
//
// Local, and yet the same on all ranks: update() is to be told whether the summed loss and the global gradient norm are
// finite, numbers that all ranks share.
class LossScale final : public StateOwner {
 public:
  explicit LossScale(const LossScaleOptions& options);

  float scale() const { return scale_; }

  // At the end of every step. Returns whether the step applies. Throws NumericError when gradients are still not finite
  // after several steps in a row at the smallest scale.
  bool update(bool finite);

  // Steps so far that did not apply: moments have seen that many fewer.
  int64_t skipped() const { return skipped_; }

  void visit_state(const StateVisitor& visit) override;

 private:
  LossScaleOptions options_;
  float scale_;
  int64_t good_steps_ = 0;  // since the scale changed or a step was left out
  int64_t failures_at_min_ = 0, skipped_ = 0;
};

}  // namespace deepflow
