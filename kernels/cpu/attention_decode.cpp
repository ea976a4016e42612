#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kKeys = 4;     // keys whose scores are summed side by side
constexpr int64_t kColumns = 4;  // vectors of values whose sums stay in registers
// A group's keys and values are short pieces of memory, over before the hardware's prefetching has settled on them. So
// keys are asked for this many rows ahead, and the first kFirst rows of what comes after while a piece is read.
constexpr int64_t kAhead = 32, kFirst = 256;

// Elements of q and k that one instruction multiplies.
template <class T>
constexpr int64_t kWide = kLanes;
template <class T>
DF_SIMD F32 multiply_add(const T* x, const T* y, F32 sum) {
  return fma(load(x), load(y), sum);
}
template <class T>
DF_SIMD F32 multiply_add(const T* x, const T* y, F32 sum, int64_t n) {
  return fma(load(x, n), load(y, n), sum);
}
#ifdef __AVX512BF16__
template <>
constexpr int64_t kWide<BF16> = 2 * kLanes;
template <>
DF_SIMD F32 multiply_add(const BF16* x, const BF16* y, F32 sum) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_loadu_si512(x), (__m512bh)_mm512_loadu_si512(y))};
}
template <>
DF_SIMD F32 multiply_add(const BF16* x, const BF16* y, F32 sum, int64_t n) {
  const auto lanes = static_cast<__mmask32>((uint64_t{1} << n) - 1);
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_maskz_loadu_epi16(lanes, x),
                           (__m512bh)_mm512_maskz_loadu_epi16(lanes, y))};
}
#endif

// scores[i] = scale * q . k[i] for kCount neighbouring keys.
template <int64_t kCount, class T>
DF_SIMD void score(const T* q, const T* k, int64_t ld_k, int64_t head_dim, float scale, float* scores) {
  F32 sum[kCount];
  for (auto& s : sum) s = zero();
  int64_t j = 0;
  for (; j + kWide<T> <= head_dim; j += kWide<T>)
    for (int64_t i = 0; i < kCount; ++i) sum[i] = multiply_add(q + j, k + i * ld_k + j, sum[i]);
  if (j < head_dim)
    for (int64_t i = 0; i < kCount; ++i) sum[i] = multiply_add(q + j, k + i * ld_k + j, sum[i], head_dim - j);
  for (int64_t i = 0; i < kCount; ++i) scores[i] = scale * reduce_add(sum[i]);
}

// o[kCount vectors] = factor * sum over keys of weights[key] v[key]. Odd and even keys are summed apart, so that one
// addition need not wait for the one before.
template <int64_t kCount, class T, class Lanes>
DF_SIMD void weigh(const float* weights, const T* v, int64_t ld_v, int64_t keys, F32 factor, T* o, Lanes lanes) {
  F32 even[kCount], odd[kCount];
  for (auto& s : even) s = zero();
  for (auto& s : odd) s = zero();
  int64_t key = 0;
  for (; key + 2 <= keys; key += 2)
    for (int64_t i = 0; i < kCount; ++i) {
      const T* at = v + key * ld_v + i * kLanes;
      even[i] = fma(splat(weights[key]), load(at, lanes), even[i]);
      odd[i] = fma(splat(weights[key + 1]), load(at + ld_v, lanes), odd[i]);
    }
  if (key < keys)
    for (int64_t i = 0; i < kCount; ++i)
      even[i] = fma(splat(weights[key]), load(v + key * ld_v + i * kLanes, lanes), even[i]);
  for (int64_t i = 0; i < kCount; ++i) store(o + i * kLanes, (even[i] + odd[i]) * factor, lanes);
}

// scores become cap * tanh(score / cap).
template <class T>
void soften(const T* kind, float* scores, int64_t n, float cap) {
  for_each_vector(n, [&](int64_t j, auto lanes) {
    store(scores + j, splat(cap) * squash(kind, load(scores + j, lanes) * splat(1.0f / cap)), lanes);
  });
}

template <class T>
DF_SIMD void prefetch_row(const T* x, int64_t n) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < n; j += kLine) __builtin_prefetch(x + j);
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
void attention_decode(const AttentionGroup<T>& a, const T* next_keys, float* scratch) {
  for (int64_t row = 0; row < a.q_rows; ++row) {
    const int64_t first = first_key(a, row), keys = a.past + row + 1 - first;
    const T *q = a.q + row * a.ld_q, *k = a.k + first * a.ld_k, *v = a.v + first * a.ld_v;
    const bool apart = a.k != a.v;
    int64_t key = 0;
    for (; key + kKeys <= keys; key += kKeys) {
      for (int64_t i = key; i < key + kKeys; ++i) {
        prefetch_row(k + (i + kAhead) * a.ld_k, a.head_dim);
        if (i < kFirst && apart) prefetch_row(v + i * a.ld_v, a.value_dim);
      }
      for (int64_t head = 0; head < a.heads; ++head)
        score<kKeys>(q + head * a.head_dim, k + key * a.ld_k, a.ld_k, a.head_dim, a.scale,
                     scratch + head * a.kv_rows + key);
    }
    for (; key < keys; ++key)
      for (int64_t head = 0; head < a.heads; ++head)
        score<1>(q + head * a.head_dim, k + key * a.ld_k, a.ld_k, a.head_dim, a.scale,
                 scratch + head * a.kv_rows + key);
    for (int64_t head = 0; head < a.heads; ++head) {
      float* weights = scratch + head * a.kv_rows;
      if (head == 0 && row == a.q_rows - 1)
        for (int64_t i = 0; i < keys && i < kFirst; ++i) prefetch_row(next_keys + i * a.ld_k, a.head_dim);
      if (a.softcap > 0) soften(q, weights, keys, a.softcap);
      const F32 inverse = splat(1.0f / exponentiate(weights, keys));
      T* o = a.o + row * a.ld_o + head * a.value_dim;
      int64_t j = 0;
      for (; j + kColumns * kLanes <= a.value_dim; j += kColumns * kLanes)
        weigh<kColumns>(weights, v + j, a.ld_v, keys, inverse, o + j, AllLanes{});
      for (; j + kLanes <= a.value_dim; j += kLanes) weigh<1>(weights, v + j, a.ld_v, keys, inverse, o + j, AllLanes{});
      if (j < a.value_dim) weigh<1>(weights, v + j, a.ld_v, keys, inverse, o + j, a.value_dim - j);
    }
  }
}

template void attention_decode(const AttentionGroup<float>&, const float*, float*);
template void attention_decode(const AttentionGroup<BF16>&, const BF16*, float*);
template void attention_decode(const AttentionGroup<F16>&, const F16*, float*);

}  // namespace deepflow::cpu::DF_ISA
