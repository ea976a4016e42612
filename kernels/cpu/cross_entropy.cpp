#include "kernels/cpu/cross_entropy.h"

#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kUnroll = 4;  // chains of dependent additions that run side by side

template <class T>
DF_SIMD float row_max(const T* x, int64_t n) {
  F32 m[kUnroll];
  for (auto& v : m) v = splat(-kInfinity);
  int64_t j = 0;
  for (; j + kUnroll * kLanes <= n; j += kUnroll * kLanes)
    for (int64_t i = 0; i < kUnroll; ++i) m[i] = max(m[i], load(x + j + i * kLanes));
  for_each_vector(n - j, [&](int64_t k, auto lanes) {
    m[0] = max(m[0], keep_lanes(load(x + j + k, lanes), lanes, splat(-kInfinity)));
  });
  return reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
}

// exp(x - shift), where the shift is made ready once.
template <class T>
DF_SIMD F32 ready_shift(const T*, float shift) {
  return splat(shift);
}
template <class T>
DF_SIMD F32 shifted_exp(const T*, F32 x, F32 shift) {
  return exp(x - shift);
}
DF_SIMD F32 ready_shift(const BF16*, float shift) { return splat(shift * -kLog2E); }
DF_SIMD F32 shifted_exp(const BF16*, F32 x, F32 shift) { return rough_exp2(fma(x, splat(kLog2E), shift)); }

template <class T>
DF_SIMD float row_log_sum_exp(const T* x, int64_t n) {
  const float largest = row_max(x, n);
  const F32 shift = ready_shift(x, largest);
  F32 sum[kUnroll];
  for (auto& v : sum) v = zero();
  int64_t j = 0;
  for (; j + kUnroll * kLanes <= n; j += kUnroll * kLanes)
    for (int64_t i = 0; i < kUnroll; ++i) sum[i] = sum[i] + shifted_exp(x, load(x + j + i * kLanes), shift);
  for_each_vector(n - j, [&](int64_t k, auto lanes) {
    sum[0] = sum[0] + keep_lanes(shifted_exp(x, load(x + j + k, lanes), shift), lanes, zero());
  });
  const float total = reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
  float lanes[kLanes];
  store(lanes, log(splat(total)));
  return largest + lanes[0];
}

// weight * (softmax - onehot(label)) of a row, times the slope of a soft cap whose inverse is given.
template <bool kSoftcap, class T>
DF_SIMD void row_gradient(T* x, int64_t n, int64_t physical, float log_sum, int64_t label, float weight,
                          float inverse_cap) {
  const F32 shift = ready_shift(x, log_sum), w = splat(weight);
  const auto weight_at = [&](F32 logit) {
    if constexpr (!kSoftcap) return w;
    const F32 squashed = logit * splat(inverse_cap);
    return w * fnma(squashed, squashed, splat(1.0f));
  };
  // In f32 before it is rounded: the label's own element is a difference of nearly equal numbers.
  F32 at_label = zero();
  if (label >= 0) {
    const F32 logit = splat(to_float(x[label]));
    at_label = weight_at(logit) * (exp(logit - splat(log_sum)) - splat(1.0f));
  }
  int64_t j = 0;
  for (; j + kUnroll * kLanes <= n; j += kUnroll * kLanes)
    for (int64_t i = 0; i < kUnroll; ++i) {
      T* p = x + j + i * kLanes;
      const F32 logit = load(p);
      store(p, weight_at(logit) * shifted_exp(x, logit, shift));
    }
  for_each_vector(n - j, [&](int64_t k, auto lanes) {
    const F32 logit = load(x + j + k, lanes);
    store(x + j + k, weight_at(logit) * shifted_exp(x, logit, shift), lanes);
  });
  if (label >= 0) store(x + label, at_label, 1);
  for_each_vector(physical - n, [&](int64_t k, auto lanes) { store(x + n + k, zero(), lanes); });
}

template <class T>
DF_SIMD void row_gradient(T* x, int64_t n, int64_t physical, float log_sum, int64_t label, float weight, float cap) {
  if (cap > 0)
    row_gradient<true>(x, n, physical, log_sum, label, weight, 1.0f / cap);
  else
    row_gradient<false>(x, n, physical, log_sum, label, weight, 0);
}

template <class T>
DF_SIMD void soften_row(T* x, int64_t n, float cap) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    store(x + j, splat(cap) * tanh(load(x + j, lanes) * splat(1.0f / cap)), lanes);
  });
}

}  // namespace

float log_sum_exp(const void* logits, DType dtype, int64_t vocabulary) {
  if (dtype == DType::kF32) return row_log_sum_exp(static_cast<const float*>(logits), vocabulary);
  if (dtype == DType::kBF16) return row_log_sum_exp(static_cast<const BF16*>(logits), vocabulary);
  return row_log_sum_exp(static_cast<const F16*>(logits), vocabulary);
}

void cross_entropy_gradient(void* logits, DType dtype, int64_t vocabulary, int64_t physical, float log_sum,
                            int64_t label, float weight, float softcap) {
  if (dtype == DType::kF32)
    row_gradient(static_cast<float*>(logits), vocabulary, physical, log_sum, label, weight, softcap);
  else if (dtype == DType::kBF16)
    row_gradient(static_cast<BF16*>(logits), vocabulary, physical, log_sum, label, weight, softcap);
  else
    row_gradient(static_cast<F16*>(logits), vocabulary, physical, log_sum, label, weight, softcap);
}

void soften(void* logits, DType dtype, int64_t vocabulary, float cap) {
  if (dtype == DType::kF32)
    soften_row(static_cast<float*>(logits), vocabulary, cap);
  else if (dtype == DType::kBF16)
    soften_row(static_cast<BF16*>(logits), vocabulary, cap);
  else
    soften_row(static_cast<F16*>(logits), vocabulary, cap);
}

}  // namespace deepflow::cpu::DF_ISA
