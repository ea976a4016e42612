#pragma once

#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// kernels/ops/optimizer_update.h, with what depends on the step alone worked out in f64 by the caller.
struct AdamwConstants {
  float decay;  // 1 - lr * weight_decay
  float beta2;
  float one_minus_beta1, one_minus_beta2;
  float step_size;     // lr / (1 - beta1^t)
  float inverse_root;  // 1 / sqrt(1 - beta2^t)
  float eps;
  float gradient_scale;
};
struct SgdConstants {
  float lr, momentum, weight_decay, gradient_scale;
  bool nesterov, first;
};

// n elements; sgd reads and writes `momentum` only where constants.momentum is not 0.
DF_DECLARE_KERNELS(void adamw(const AdamwConstants& constants, float* master, float* m, float* v, const float* gradient,
                              int64_t n);
                   void sgd(const SgdConstants& constants, float* master, float* momentum, const float* gradient,
                            int64_t n);)

}  // namespace deepflow::cpu
