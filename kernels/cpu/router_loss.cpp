#include "kernels/cpu/router_loss.h"

#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr float kSmallestSum = 1e-20f;  // all scores of a row may be 0

DF_SIMD float inverse_sum(const float* scores, int64_t experts) {
  F32 sum = zero();
  for_each_vector(experts, [&](int64_t j, auto lanes) { sum = sum + load(scores + j, lanes); });
  return 1.0f / (reduce_add(sum) + kSmallestSum);
}

}  // namespace

void add_scores(const float* scores, int64_t experts, int64_t rows, bool normalise, float* sums) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* s = scores + row * experts;
    const F32 factor = splat(normalise ? inverse_sum(s, experts) : 1.0f);
    for_each_vector(experts, [&](int64_t j, auto lanes) {
      store(sums + j, fma(load(s + j, lanes), factor, load(sums + j, lanes)), lanes);
    });
  }
}

void balance_backward(const float* scores, const float* slope, int64_t experts, int64_t rows, bool normalise,
                      float* dscores) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* s = scores + row * experts;
    float* d = dscores + row * experts;
    if (!normalise) {
      for_each_vector(experts, [&](int64_t j, auto lanes) { store(d + j, load(slope + j, lanes), lanes); });
      continue;
    }
    const float inverse = inverse_sum(s, experts);
    F32 product = zero();
    for_each_vector(experts,
                    [&](int64_t j, auto lanes) { product = fma(load(s + j, lanes), load(slope + j, lanes), product); });
    const F32 mean = splat(reduce_add(product) * inverse), factor = splat(inverse);
    for_each_vector(experts,
                    [&](int64_t j, auto lanes) { store(d + j, (load(slope + j, lanes) - mean) * factor, lanes); });
  }
}

void z_loss_backward(const float* logits, const float* log_sums, float factor, float* dlogits, int64_t experts,
                     int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const F32 log_sum = splat(log_sums[row]), scale = splat(factor * log_sums[row]);
    for_each_vector(experts, [&](int64_t j, auto lanes) {
      store(dlogits + row * experts + j, scale * exp(load(logits + row * experts + j, lanes) - log_sum), lanes);
    });
  }
}

}  // namespace deepflow::cpu::DF_ISA
