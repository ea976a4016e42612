#include "kernels/cpu/optimizer_update.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

void adamw(const AdamwConstants& constants, float* master, float* m, float* v, const float* gradient, int64_t n) {
  const F32 decay = splat(constants.decay), scale = splat(constants.gradient_scale), eps = splat(constants.eps);
  const F32 one_minus_beta1 = splat(constants.one_minus_beta1), one_minus_beta2 = splat(constants.one_minus_beta2);
  const F32 beta2 = splat(constants.beta2), root = splat(constants.inverse_root), step = splat(constants.step_size);
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 g = load(gradient + j, lanes) * scale;
    const F32 m_old = load(m + j, lanes);
    const F32 m_new = fma(g - m_old, one_minus_beta1, m_old);
    const F32 v_new = fma(one_minus_beta2 * g, g, beta2 * load(v + j, lanes));
    const F32 denominator = fma(sqrt(v_new), root, eps);
    store(m + j, m_new, lanes);
    store(v + j, v_new, lanes);
    store(master + j, fnma(step, m_new / denominator, load(master + j, lanes) * decay), lanes);
  });
}

void sgd(const SgdConstants& constants, float* master, float* momentum, const float* gradient, int64_t n) {
  const F32 lr = splat(constants.lr), mu = splat(constants.momentum), decay = splat(constants.weight_decay);
  const F32 scale = splat(constants.gradient_scale);
  const bool has_momentum = constants.momentum != 0, first = constants.first, nesterov = constants.nesterov;
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 p = load(master + j, lanes);
    const F32 g = fma(decay, p, load(gradient + j, lanes) * scale);
    F32 direction = g;
    if (has_momentum) {
      const F32 b = first ? g : fma(mu, load(momentum + j, lanes), g);
      store(momentum + j, b, lanes);
      direction = nesterov ? fma(mu, b, g) : b;
    }
    store(master + j, fnma(lr, direction, p), lanes);
  });
}

void lion(const LionConstants& constants, float* master, float* m, const float* gradient, int64_t n) {
  const F32 decay = splat(constants.decay), scale = splat(constants.gradient_scale), lr = splat(constants.lr);
  const F32 beta1 = splat(constants.beta1), beta2 = splat(constants.beta2);
  const F32 one_minus_beta1 = splat(constants.one_minus_beta1), one_minus_beta2 = splat(constants.one_minus_beta2);
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 g = load(gradient + j, lanes) * scale, m_old = load(m + j, lanes);
    const F32 mixed = fma(beta1, m_old, one_minus_beta1 * g);
    const F32 step = select(mixed == zero(), zero(), copysign(lr, mixed));
    store(m + j, fma(beta2, m_old, one_minus_beta2 * g), lanes);
    store(master + j, load(master + j, lanes) * decay - step, lanes);
  });
}

void mix_momentum(const MomentumConstants& constants, float* momentum, float* gradient, int64_t n) {
  const F32 mu = splat(constants.momentum), scale = splat(constants.gradient_scale);
  const F32 one_minus_mu = splat(constants.one_minus_momentum);
  const bool nesterov = constants.nesterov;
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 g = load(gradient + j, lanes) * scale;
    const F32 m = fma(mu, load(momentum + j, lanes), one_minus_mu * g);
    store(momentum + j, m, lanes);
    store(gradient + j, nesterov ? fma(mu, m, one_minus_mu * g) : m, lanes);
  });
}

void decayed_step(float decay, float step, float* master, const float* direction, int64_t n) {
  const F32 keep = splat(decay), length = splat(step);
  for_each_vector(n, [&](int64_t j, auto lanes) {
    store(master + j, fnma(length, load(direction + j, lanes), load(master + j, lanes) * keep), lanes);
  });
}

}  // namespace deepflow::cpu::DF_ISA
