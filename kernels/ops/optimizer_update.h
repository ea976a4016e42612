#pragma once

#include "core/runtime.h"
#include "core/tensor.h"
#include "kernels/cpu/optimizer_update.h"

namespace deepflow {

// Loshchilov & Hutter 2019, algorithm 2, decoupled weight decay as torch.optim.AdamW has it. f64, because 1 - beta2 in
// f32 would differ from PyTorch's by 1e-5.
struct AdamwStep {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;          // 1 at the first update (bias correction)
  float gradient_scale;  // clipping: gradients are multiplied by it as they are read
};
cpu::AdamwConstants adamw_constants(const AdamwStep& step);
// One pass over flat f32 ranges of equal length: master, first and second moment are updated in place.
void adamw_update(Runtime& runtime, const AdamwStep& step, Tensor& master, Tensor& m, Tensor& v,
                  const Tensor& gradient);

// The same over n neighbouring elements, on the calling thread alone: for a caller that deals the work.
class AdamwRange {
 public:
  AdamwRange(const Runtime& runtime, const AdamwStep& step);
  void operator()(float* master, float* m, float* v, const float* gradient, int64_t n) const;

 private:
  CpuIsa isa_;
  cpu::AdamwConstants constants_;
};

// torch.optim.SGD: b = momentum * b + g + weight_decay * p (b = g... at the first step); p -= lr * (nesterov ? g +
// momentum * b : b). Without momentum the tensor `momentum` is not touched and may be undefined.
struct SgdStep {
  double lr, momentum, weight_decay;
  bool nesterov, first;
  float gradient_scale;
};
void sgd_update(Runtime& runtime, const SgdStep& step, Tensor& master, Tensor& momentum, const Tensor& gradient);
class SgdRange {
 public:
  SgdRange(const Runtime& runtime, const SgdStep& step);
  void operator()(float* master, float* momentum, const float* gradient, int64_t n) const;

 private:
  CpuIsa isa_;
  cpu::SgdConstants constants_;
};

// Chen et al. 2023, algorithm 2: the sign of beta1 m + (1 - beta1) g, zero where that is zero; then m follows g with
// beta2. Over n neighbouring elements, on the calling thread alone, as all below.
struct LionStep {
  double lr, beta1, beta2, weight_decay;
  float gradient_scale;
};
class LionRange {
 public:
  LionRange(const Runtime& runtime, const LionStep& step);
  void operator()(float* master, float* m, const float* gradient, int64_t n) const;

 private:
  CpuIsa isa_;
  cpu::LionConstants constants_;
};

// momentum = momentum * mu + (1 - mu) g; the gradient becomes that, or with Nesterov's rule mu times it + (1 - mu) g.
class MomentumRange {
 public:
  MomentumRange(const Runtime& runtime, double mu, bool nesterov, float gradient_scale);
  void operator()(float* momentum, float* gradient, int64_t n) const;

 private:
  CpuIsa isa_;
  cpu::MomentumConstants constants_;
};

// master = decay * master - step * direction.
void decayed_step(const Runtime& runtime, double decay, double step, float* master, const float* direction, int64_t n);

}  // namespace deepflow
