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
struct LionConstants {
  float decay;  // 1 - lr * weight_decay
  float beta1, beta2, one_minus_beta1, one_minus_beta2, lr, gradient_scale;
};
struct MomentumConstants {
  float momentum, one_minus_momentum, gradient_scale;
  bool nesterov;
};

// n elements; sgd reads and writes `momentum` only where constants.momentum is not 0.
DF_DECLARE_KERNELS(void adamw(const AdamwConstants& constants, float* master, float* m, float* v, const float* gradient,
                              int64_t n);
                   void sgd(const SgdConstants& constants, float* master, float* momentum, const float* gradient,
                            int64_t n);
                   void lion(const LionConstants& constants, float* master, float* m, const float* gradient, int64_t n);
                   void mix_momentum(const MomentumConstants& constants, float* momentum, float* gradient, int64_t n);
                   void decayed_step(float decay, float step, float* master, const float* direction, int64_t n);)

}  // namespace deepflow::cpu
