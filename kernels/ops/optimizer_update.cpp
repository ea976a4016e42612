#include "kernels/ops/optimizer_update.h"

#include "core/error.h"

#include <cmath>

namespace deepflow {
namespace {

constexpr int64_t kGrain = 16 * 1024;  // elements worth waking a thread for

float* flat(const Tensor& t, int64_t n) {
  DF_ASSERT(t.is_contiguous() && t.num_elements() == n, "{} where {} elements are updated", t.shape().to_string(), n);
  return t.data<float>();
}

cpu::AdamwConstants constants_of(const AdamwStep& step) {
  DF_ASSERT(step.step >= 1);
  const double t = static_cast<double>(step.step);
  cpu::AdamwConstants c;
  c.decay = static_cast<float>(1 - step.lr * step.weight_decay);
  c.beta2 = static_cast<float>(step.beta2);
  c.one_minus_beta1 = static_cast<float>(1 - step.beta1);
  c.one_minus_beta2 = static_cast<float>(1 - step.beta2);
  c.step_size = static_cast<float>(step.lr / (1 - std::pow(step.beta1, t)));
  c.inverse_root = static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta2, t)));
  c.eps = static_cast<float>(step.eps);
  c.gradient_scale = step.gradient_scale;
  return c;
}

cpu::SgdConstants constants_of(const SgdStep& step) {
  cpu::SgdConstants c;
  c.lr = static_cast<float>(step.lr);
  c.momentum = static_cast<float>(step.momentum);
  c.weight_decay = static_cast<float>(step.weight_decay);
  c.gradient_scale = step.gradient_scale;
  c.nesterov = step.nesterov;
  c.first = step.first;
  return c;
}

cpu::LionConstants constants_of(const LionStep& step) {
  cpu::LionConstants c;
  c.decay = static_cast<float>(1 - step.lr * step.weight_decay);
  c.beta1 = static_cast<float>(step.beta1);
  c.beta2 = static_cast<float>(step.beta2);
  c.one_minus_beta1 = static_cast<float>(1 - step.beta1);
  c.one_minus_beta2 = static_cast<float>(1 - step.beta2);
  c.lr = static_cast<float>(step.lr);
  c.gradient_scale = step.gradient_scale;
  return c;
}

}  // namespace

cpu::AdamwConstants adamw_constants(const AdamwStep& step) { return constants_of(step); }

AdamwRange::AdamwRange(const Runtime& runtime, const AdamwStep& step)
    : isa_(runtime.isa()), constants_(constants_of(step)) {}

void AdamwRange::operator()(float* master, float* m, float* v, const float* gradient, int64_t n) const {
  DF_KERNEL(isa_, adamw)(constants_, master, m, v, gradient, n);
}

SgdRange::SgdRange(const Runtime& runtime, const SgdStep& step) : isa_(runtime.isa()), constants_(constants_of(step)) {}

void SgdRange::operator()(float* master, float* momentum, const float* gradient, int64_t n) const {
  DF_KERNEL(isa_, sgd)(constants_, master, momentum, gradient, n);
}

LionRange::LionRange(const Runtime& runtime, const LionStep& step)
    : isa_(runtime.isa()), constants_(constants_of(step)) {}

void LionRange::operator()(float* master, float* m, const float* gradient, int64_t n) const {
  DF_KERNEL(isa_, lion)(constants_, master, m, gradient, n);
}

MomentumRange::MomentumRange(const Runtime& runtime, double mu, bool nesterov, float gradient_scale)
    : isa_(runtime.isa()), constants_{static_cast<float>(mu), static_cast<float>(1 - mu), gradient_scale, nesterov} {}

void MomentumRange::operator()(float* momentum, float* gradient, int64_t n) const {
  DF_KERNEL(isa_, mix_momentum)(constants_, momentum, gradient, n);
}

void decayed_step(const Runtime& runtime, double decay, double step, float* master, const float* direction, int64_t n) {
  DF_KERNEL(runtime.isa(), decayed_step)
  (static_cast<float>(decay), static_cast<float>(step), master, direction, n);
}

void adamw_update(Runtime& runtime, const AdamwStep& step, Tensor& master, Tensor& m, Tensor& v,
                  const Tensor& gradient) {
  const int64_t n = master.num_elements();
  float *p = flat(master, n), *first = flat(m, n), *second = flat(v, n);
  const float* g = flat(gradient, n);
  const AdamwRange update(runtime, step);
  runtime.pool().parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    update(p + begin, first + begin, second + begin, g + begin, end - begin);
  });
}

void sgd_update(Runtime& runtime, const SgdStep& step, Tensor& master, Tensor& momentum, const Tensor& gradient) {
  const int64_t n = master.num_elements();
  float *p = flat(master, n), *b = step.momentum == 0 ? nullptr : flat(momentum, n);
  const float* g = flat(gradient, n);
  const SgdRange update(runtime, step);
  runtime.pool().parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    update(p + begin, b ? b + begin : nullptr, g + begin, end - begin);
  });
}

}  // namespace deepflow
