#include "kernels/ops/optimizer_update.h"

#include "core/error.h"
#include "kernels/cpu/optimizer_update.h"

#include <cmath>

namespace deepflow {
namespace {

constexpr int64_t kGrain = 16 * 1024;  // elements worth waking a thread for

float* flat(const Tensor& t, int64_t n) {
  DF_ASSERT(t.is_contiguous() && t.num_elements() == n, "{} where {} elements are updated", t.shape().to_string(), n);
  return t.data<float>();
}

}  // namespace

void adamw_update(Runtime& runtime, const AdamwStep& step, Tensor& master, Tensor& m, Tensor& v,
                  const Tensor& gradient) {
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
  const int64_t n = master.num_elements();
  float *p = flat(master, n), *first = flat(m, n), *second = flat(v, n);
  const float* g = flat(gradient, n);
  auto* update = DF_KERNEL(runtime.isa(), adamw);
  runtime.pool().parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    update(c, p + begin, first + begin, second + begin, g + begin, end - begin);
  });
}

void sgd_update(Runtime& runtime, const SgdStep& step, Tensor& master, Tensor& momentum, const Tensor& gradient) {
  cpu::SgdConstants c;
  c.lr = static_cast<float>(step.lr);
  c.momentum = static_cast<float>(step.momentum);
  c.weight_decay = static_cast<float>(step.weight_decay);
  c.gradient_scale = step.gradient_scale;
  c.nesterov = step.nesterov;
  c.first = step.first;
  const int64_t n = master.num_elements();
  float *p = flat(master, n), *b = c.momentum == 0 ? nullptr : flat(momentum, n);
  const float* g = flat(gradient, n);
  auto* update = DF_KERNEL(runtime.isa(), sgd);
  runtime.pool().parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    update(c, p + begin, b ? b + begin : nullptr, g + begin, end - begin);
  });
}

}  // namespace deepflow
