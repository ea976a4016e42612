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

template <class T>
DF_SIMD void row_gradient(T* x, int64_t n, int64_t physical, float log_sum, int64_t label, float weight) {
  const F32 shift = ready_shift(x, log_sum), w = splat(weight);
  // In f32 before it is rounded: the label's own element is a difference of nearly equal numbers.
  const F32 at_label = label < 0 ? zero() : w * (exp(splat(to_float(x[label]) - log_sum)) - splat(1.0f));
  int64_t j = 0;
  for (; j + kUnroll * kLanes <= n; j += kUnroll * kLanes)
    for (int64_t i = 0; i < kUnroll; ++i) {
      T* p = x + j + i * kLanes;
      store(p, w * shifted_exp(x, load(p), shift));
    }
  for_each_vector(n - j, [&](int64_t k, auto lanes) {
    store(x + j + k, w * shifted_exp(x, load(x + j + k, lanes), shift), lanes);
  });
  if (label >= 0) store(x + label, at_label, 1);
  for_each_vector(physical - n, [&](int64_t k, auto lanes) { store(x + n + k, zero(), lanes); });
}

}  // namespace

float log_sum_exp(const void* logits, DType dtype, int64_t vocabulary) {
  if (dtype == DType::kF32) return row_log_sum_exp(static_cast<const float*>(logits), vocabulary);
  if (dtype == DType::kBF16) return row_log_sum_exp(static_cast<const BF16*>(logits), vocabulary);
  return row_log_sum_exp(static_cast<const F16*>(logits), vocabulary);
}

void cross_entropy_gradient(void* logits, DType dtype, int64_t vocabulary, int64_t physical, float log_sum,
                            int64_t label, float weight) {
  if (dtype == DType::kF32)
    row_gradient(static_cast<float*>(logits), vocabulary, physical, log_sum, label, weight);
  else if (dtype == DType::kBF16)
    row_gradient(static_cast<BF16*>(logits), vocabulary, physical, log_sum, label, weight);
  else
    row_gradient(static_cast<F16*>(logits), vocabulary, physical, log_sum, label, weight);
}

}  // namespace deepflow::cpu::DF_ISA
