#pragma once

#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// Loshchilov & Hutter 2019, algorithm 2, decoupled weight decay as torch.optim.AdamW has it. f64, because 1 - beta2 in
// f32 would differ from PyTorch's by 1e-5.
struct AdamwStep {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;          // 1 at the first update (bias correction)
  float gradient_scale;  // clipping: gradients are multiplied by it as they are read
};
// One pass over flat f32 ranges of equal length: master, first and second moment are updated in place.
void adamw_update(Runtime& runtime, const AdamwStep& step, Tensor& master, Tensor& m, Tensor& v,
                  const Tensor& gradient);

// torch.optim.SGD: b = momentum * b + g + weight_decay * p (b = g... at the first step); p -= lr * (nesterov ? g +
// momentum * b : b). Without momentum the tensor `momentum` is not touched and may be undefined.
struct SgdStep {
  double lr, momentum, weight_decay;
  bool nesterov, first;
  float gradient_scale;
};
void sgd_update(Runtime& runtime, const SgdStep& step, Tensor& master, Tensor& momentum, const Tensor& gradient);

}  // namespace deepflow
