#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

template <class T>
float dot(const T* x, const T* y, int64_t n) {
  F32 sum = zero();
  for_each_vector(n, [&](int64_t j, auto lanes) { sum = fma(load(x + j, lanes), load(y + j, lanes), sum); });
  return reduce_add(sum);
}

// scores[0, n) become exp(score - maximum); returns their sum.
float exponentiate(float* scores, int64_t n) {
  F32 top = splat(-kInfinity), sum = zero();
  for_each_vector(
      n, [&](int64_t j, auto lanes) { top = max(top, keep_lanes(load(scores + j, lanes), lanes, splat(-kInfinity))); });
  const F32 maximum = splat(reduce_max(top));
  for_each_vector(n, [&](int64_t j, auto lanes) {
    const F32 e = exp(load(scores + j, lanes) - maximum);
    store(scores + j, e, lanes);
    sum = sum + keep_lanes(e, lanes, zero());
  });
  return reduce_add(sum);
}

}  // namespace

template <class T>
void attention_decode(const AttentionGroup<T>& a, float* scratch) {
  for (int64_t row = 0; row < a.q_rows; ++row) {
    const int64_t first = first_key(a, row), keys = a.kv_rows - a.q_rows + row + 1 - first;
    const T *q = a.q + row * a.ld_q, *k = a.k + first * a.ld_k, *v = a.v + first * a.ld_v;
    for (int64_t key = 0; key < keys; ++key)
      for (int64_t head = 0; head < a.heads; ++head)
        scratch[head * a.kv_rows + key] = a.scale * dot(q + head * a.head_dim, k + key * a.ld_k, a.head_dim);
    for (int64_t head = 0; head < a.heads; ++head) {
      float* weights = scratch + head * a.kv_rows;
      const F32 inverse = splat(1.0f / exponentiate(weights, keys));
      T* o = a.o + row * a.ld_o + head * a.head_dim;
      for_each_vector(a.head_dim, [&](int64_t j, auto lanes) {
        F32 sum = zero();
        for (int64_t key = 0; key < keys; ++key) sum = fma(splat(weights[key]), load(v + key * a.ld_v + j, lanes), sum);
        store(o + j, sum * inverse, lanes);
      });
    }
  }
}

template void attention_decode(const AttentionGroup<float>&, float*);
template void attention_decode(const AttentionGroup<BF16>&, float*);

}  // namespace deepflow::cpu::DF_ISA
