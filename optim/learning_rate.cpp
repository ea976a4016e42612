#include "optim/learning_rate.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace deepflow {
namespace {

// Fraction of the peak after warm-up, `t` in [0, 1] from its end to the end of the run.
using Decay = double (*)(double t, double final_fraction, double decay_fraction);

double cosine(double t, double final_fraction, double) {
  return final_fraction + (1 - final_fraction) * 0.5 * (1 + std::cos(std::numbers::pi * t));
}
double linear(double t, double final_fraction, double) { return 1 - (1 - final_fraction) * t; }
double constant(double, double, double) { return 1; }
double warmup_stable_decay(double t, double final_fraction, double decay_fraction) {
  const double start = 1 - decay_fraction;
  return t <= start ? 1 : linear((t - start) / decay_fraction, final_fraction, 0);
}

struct Schedule {
  const char* name;
  Decay decay;
};
constexpr Schedule kSchedules[] = {
    {"warmup_cosine", cosine}, {"linear", linear}, {"constant", constant}, {"wsd", warmup_stable_decay}};

Decay find(const std::string& name) {
  for (const Schedule& s : kSchedules)
    if (name == s.name) return s.decay;
  throw ConfigError("optim.schedule: {} is not a schedule", name);
}

}  // namespace

std::vector<std::string> learning_rate_schedules() {
  std::vector<std::string> names;
  for (const Schedule& s : kSchedules) names.emplace_back(s.name);
  return names;
}

double learning_rate(const OptimOptions& o, int64_t step, int64_t total_steps) {
  if (step <= o.warmup) return o.lr * static_cast<double>(step) / static_cast<double>(o.warmup);
  const double length = static_cast<double>(std::max<int64_t>(1, total_steps - o.warmup));
  const double t = std::min(1.0, static_cast<double>(step - o.warmup) / length);
  const double decay = std::clamp(static_cast<double>(o.decay) / length, 1e-9, 1.0);
  return o.lr * find(o.schedule)(t, o.final_lr, decay);
}

}  // namespace deepflow
