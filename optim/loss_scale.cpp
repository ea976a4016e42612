#include "optim/loss_scale.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace deepflow {
namespace {

constexpr float kLargest = 0x1p60f;  // its product with the weight of a row stays finite
constexpr int64_t kPatience = 5;     // steps at the smallest scale

bool is_power_of_2(double x) {
  int exponent;
  return std::frexp(x, &exponent) == 0.5;
}

}  // namespace

void declare(OptionGroup& group, LossScaleOptions& o) {
  group.add("init", o.init)
      .help("scale of the first step, a power of 2")
      .range(1e-6, 1e18)
      .source("Micikevicius et al. 2018, section 3.2");
  group.add("growth_interval", o.growth_interval)
      .help("the scale doubles after so many steps in a row with a finite gradient; one that is not halves it")
      .unit("steps")
      .at_least(1);
  group.add("min", o.min)
      .help("smallest scale, a power of 2; gradients that are not finite even there end the run")
      .range(1e-6, 1e18);
  group.check([&o](const OptionGroup& g) {
    for (const auto& [key, value] : {std::pair<const char*, double>{"init", o.init}, {"min", o.min}})
      if (!is_power_of_2(value))
        g.fail(key, "is {}, no power of 2; the next below is {}", value, std::exp2(std::floor(std::log2(value))));
    if (o.init < o.min) g.fail("init", "is {}, below min, {}", o.init, o.min);
  });
}

LossScale::LossScale(const LossScaleOptions& options) : options_(options), scale_(static_cast<float>(options.init)) {
  DF_ASSERT(is_power_of_2(options.init) && is_power_of_2(options.min) && options.init >= options.min, "{} and {}",
            options.init, options.min);
}

bool LossScale::update(bool finite) {
  if (finite) {
    failures_at_min_ = 0;
    if (++good_steps_ < options_.growth_interval) return true;
    good_steps_ = 0;
    scale_ = std::min(2 * scale_, kLargest);
    return true;
  }
  good_steps_ = 0;
  ++skipped_;
  const auto min = static_cast<float>(options_.min);
  if (scale_ > min) {
    scale_ /= 2;
  } else if (++failures_at_min_ == kPatience) {
    throw NumericError(
        "the loss scale fell to {} (optim.loss_scale.min), and loss or gradient are still not finite after {} more "
        "steps: the model diverges; try a lower optim.lr, a longer optim.warmup or train.precision=bf16",
        options_.min, kPatience);
  }
  return false;
}

void LossScale::visit_state(const StateVisitor& visit) {
  StateEntry scale{"loss_scale/scale",  {1}, {{{0}, {1}}}, 0, Tensor::wrap(&scale_, {1}, DType::kF32),
                   Reshard::kReplicated};
  visit(scale);
  const struct {
    const char* name;
    int64_t* value;
  } counters[] = {{"loss_scale/good_steps", &good_steps_},
                  {"loss_scale/failures_at_min", &failures_at_min_},
                  {"loss_scale/skipped", &skipped_}};
  for (const auto& counter : counters) {
    StateEntry entry{counter.name,        {1}, {{{0}, {1}}}, 0, Tensor::wrap(counter.value, {1}, DType::kI64),
                     Reshard::kReplicated};
    visit(entry);
  }
}

}  // namespace deepflow
