#include "kernels/cpu/latent_rows.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kRows = 4;     // rows that share what is loaded of a weight
constexpr int64_t kVectors = 4;  // vectors of a row whose sums are in registers
constexpr int64_t kDepth = 16;   // weight rows added at a time: the reads run along memory

DF_SIMD int64_t lane_count(AllLanes) { return kLanes; }
DF_SIMD int64_t lane_count(int64_t n) { return n; }

#ifdef __AVX512F__
DF_SIMD F32 swap_pairs(F32 x) { return {_mm512_permute_ps(x.v, 0xb1)}; }
// p[0], p[0], p[1], p[1], ... for so many pairs.
DF_SIMD F32 load_twice(const float* p, int64_t pairs) {
  const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return {_mm512_permutexvar_ps(index, load(p, pairs).v)};
}
#else
DF_SIMD F32 swap_pairs(F32 x) { return {_mm256_permute_ps(x.v, 0xb1)}; }
DF_SIMD F32 load_twice(const float* p, int64_t pairs) {
  const __m256i index = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  return {_mm256_permutevar8x32_ps(load(p, pairs).v, index)};
}
#endif

template <class T>
DF_SIMD void copy_columns(const T* from, int64_t n, T* to) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
}

// Rotation of one row, forward or back.
struct RowRotation {
  int64_t n;
  const float *cos, *sin;
  F32 signs;  // of sin: of the first of a pair, of the second

  RowRotation(const PairRotation& r, int64_t row, float direction) : n(r.rope_dim) {
    const int64_t at = r.positions[row] * (r.rope_dim / 2);
    cos = r.cos + at;
    sin = r.sin + at;
    float alternating[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) alternating[i] = i % 2 == 0 ? -direction : direction;
    signs = load(alternating);
  }
  template <class Lanes>
  DF_SIMD F32 turn(F32 x, int64_t j, Lanes lanes) const {
    const int64_t pairs = lane_count(lanes) / 2;
    return fma(swap_pairs(x), load_twice(sin + j / 2, pairs) * signs, x * load_twice(cos + j / 2, pairs));
  }
  template <class T>
  DF_SIMD void operator()(const T* from, T* to) const {
    for_each_vector(n, [&](int64_t j, auto lanes) { store(to + j, turn(load(from + j, lanes), j, lanes), lanes); });
  }
};

// kWide vectors of sums [kCount, rank] += left [kCount, depth] w [depth, rank].
template <int64_t kCount, int64_t kWide, class T, class Lanes>
DF_SIMD void add_products(const float (*left)[kDepth], const T* w, int64_t rank, int64_t depth, float* sums,
                          Lanes lanes) {
  F32 sum[kCount][kWide];
  for (int64_t i = 0; i < kCount; ++i)
    for (int64_t v = 0; v < kWide; ++v) sum[i][v] = load(sums + i * rank + v * kLanes, lanes);
  for (int64_t d = 0; d < depth; ++d)
    for (int64_t v = 0; v < kWide; ++v) {
      const F32 right = load(w + d * rank + v * kLanes, lanes);
      for (int64_t i = 0; i < kCount; ++i) sum[i][v] = fma(splat(left[i][d]), right, sum[i][v]);
    }
  for (int64_t i = 0; i < kCount; ++i)
    for (int64_t v = 0; v < kWide; ++v) store(sums + i * rank + v * kLanes, sum[i][v], lanes);
}

// sums [kCount, rank] += x [kCount, depth] w [depth, rank], depth <= kDepth.
template <int64_t kCount, class T>
DF_SIMD void add_weight_rows(const T* x, int64_t ld_x, const T* w, int64_t rank, int64_t depth, float* sums) {
  float left[kCount][kDepth];
  for (int64_t i = 0; i < kCount; ++i)
    for_each_vector(depth, [&](int64_t d, auto lanes) { store(left[i] + d, load(x + i * ld_x + d, lanes), lanes); });
  int64_t j = 0;
  for (; j + kVectors * kLanes <= rank; j += kVectors * kLanes)
    add_products<kCount, kVectors>(left, w + j, rank, depth, sums + j, AllLanes{});
  for (; j + kLanes <= rank; j += kLanes) add_products<kCount, 1>(left, w + j, rank, depth, sums + j, AllLanes{});
  if (j < rank) add_products<kCount, 1>(left, w + j, rank, depth, sums + j, rank - j);
}

template <int64_t kCount, class T>
void absorb_query_rows(const AbsorbedRows<T>& a, const PairRotation& rotation, int64_t head, int64_t row, float* sums) {
  const T* x = a.x + row * a.ld_x + head * (a.nope_dim + rotation.rope_dim);
  T* y = a.y + row * a.ld_y + head * (a.rank + rotation.rope_dim);
  const T* w = a.kv_up + head * (a.nope_dim + a.value_dim) * a.rank;
  for (int64_t j = 0; j < kCount * a.rank; ++j) sums[j] = 0;
  for (int64_t d = 0; d < a.nope_dim; d += kDepth)
    add_weight_rows<kCount>(x + d, a.ld_x, w + d * a.rank, a.rank, a.nope_dim - d < kDepth ? a.nope_dim - d : kDepth,
                            sums);
  for (int64_t i = 0; i < kCount; ++i) {
    for_each_vector(
        a.rank, [&](int64_t j, auto lanes) { store(y + i * a.ld_y + j, load(sums + i * a.rank + j, lanes), lanes); });
    const RowRotation rotate(rotation, row + i, 1);
    rotate(x + i * a.ld_x + a.nope_dim, y + i * a.ld_y + a.rank);
  }
}

// y [kCount, kWide] = x [kCount, rank] w [kWide, rank]^T.
template <int64_t kCount, int64_t kWide, class T>
DF_SIMD void multiply_weight_rows(const T* x, int64_t ld_x, const T* w, int64_t rank, float* y, int64_t ld_y) {
  F32 sum[kCount][kWide];
  for (auto& row : sum)
    for (auto& s : row) s = zero();
  for_each_vector(rank, [&](int64_t j, auto lanes) {
    F32 right[kWide];
    for (int64_t v = 0; v < kWide; ++v) right[v] = load(w + v * rank + j, lanes);
    for (int64_t i = 0; i < kCount; ++i) {
      const F32 left = load(x + i * ld_x + j, lanes);
      for (int64_t v = 0; v < kWide; ++v) sum[i][v] = fma(left, right[v], sum[i][v]);
    }
  });
  for (int64_t i = 0; i < kCount; ++i)
    for (int64_t v = 0; v < kWide; ++v) y[i * ld_y + v] = reduce_add(sum[i][v]);
}

template <int64_t kCount, class T>
void absorb_value_rows(const AbsorbedRows<T>& a, int64_t head, int64_t row) {
  constexpr int64_t kChunk = 64, kWide = 4;
  const T* x = a.x + row * a.ld_x + head * a.rank;
  const T* w = a.kv_up + (head * (a.nope_dim + a.value_dim) + a.nope_dim) * a.rank;
  for (int64_t first = 0; first < a.value_dim; first += kChunk) {
    const int64_t count = a.value_dim - first < kChunk ? a.value_dim - first : kChunk;
    float chunk[kCount][kChunk];
    int64_t v = 0;
    for (; v + kWide <= count; v += kWide)
      multiply_weight_rows<kCount, kWide>(x, a.ld_x, w + (first + v) * a.rank, a.rank, chunk[0] + v, kChunk);
    for (; v < count; ++v)
      multiply_weight_rows<kCount, 1>(x, a.ld_x, w + (first + v) * a.rank, a.rank, chunk[0] + v, kChunk);
    for (int64_t i = 0; i < kCount; ++i)
      for_each_vector(count, [&](int64_t j, auto lanes) {
        store(a.y + (row + i) * a.ld_y + head * a.value_dim + first + j, load(chunk[i] + j, lanes), lanes);
      });
  }
}

}  // namespace

template <class T>
void latent_rows(const LatentRows<T>& a, int64_t begin, int64_t end) {
  const int64_t rope = a.rotation.rope_dim, key_dim = a.nope_dim + rope, up_dim = a.nope_dim + a.value_dim;
  for (int64_t row = begin; row < end; ++row) {
    const RowRotation rotate(a.rotation, row, 1);
    const T *q = a.q + row * a.ld_q, *kv = a.kv + row * a.ld_kv;
    T *queries = a.qkv + row * a.ld_qkv, *keys = queries + a.heads * key_dim, *values = keys + a.heads * key_dim;
    T* rotated = keys + a.nope_dim;  // of head 0
    rotate(a.k_rope + row * a.ld_k_rope, rotated);
    for (int64_t h = 0; h < a.heads; ++h) {
      copy_columns(q + h * key_dim, a.nope_dim, queries + h * key_dim);
      rotate(q + h * key_dim + a.nope_dim, queries + h * key_dim + a.nope_dim);
    }
    for (int64_t h = 0; h < a.heads; ++h) {
      copy_columns(kv + h * up_dim, a.nope_dim, keys + h * key_dim);
      if (h > 0) copy_columns(rotated, rope, keys + h * key_dim + a.nope_dim);
      copy_columns(kv + h * up_dim + a.nope_dim, a.value_dim, values + h * a.value_dim);
    }
  }
}

template <class T>
void latent_rows_gradient(const LatentRows<T>& a, int64_t begin, int64_t end) {
  const int64_t rope = a.rotation.rope_dim, key_dim = a.nope_dim + rope, up_dim = a.nope_dim + a.value_dim;
  for (int64_t row = begin; row < end; ++row) {
    const RowRotation rotate_back(a.rotation, row, -1);
    T *q = a.q + row * a.ld_q, *kv = a.kv + row * a.ld_kv, *k_rope = a.k_rope + row * a.ld_k_rope;
    const T *queries = a.qkv + row * a.ld_qkv, *keys = queries + a.heads * key_dim, *values = keys + a.heads * key_dim;
    for (int64_t h = 0; h < a.heads; ++h) {
      copy_columns(queries + h * key_dim, a.nope_dim, q + h * key_dim);
      rotate_back(queries + h * key_dim + a.nope_dim, q + h * key_dim + a.nope_dim);
    }
    for (int64_t h = 0; h < a.heads; ++h) {
      copy_columns(keys + h * key_dim, a.nope_dim, kv + h * up_dim);
      copy_columns(values + h * a.value_dim, a.value_dim, kv + h * up_dim + a.nope_dim);
    }
    for_each_vector(rope, [&](int64_t j, auto lanes) {
      F32 sum = zero();
      for (int64_t h = 0; h < a.heads; ++h) sum = sum + load(keys + h * key_dim + a.nope_dim + j, lanes);
      store(k_rope + j, rotate_back.turn(sum, j, lanes), lanes);
    });
  }
}

template <class T>
void latent_key_rows(const T* latent, int64_t ld_latent, const T* k_rope, int64_t ld_k_rope, int64_t rank,
                     const PairRotation& rotation, T* keys, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    T* to = keys + row * (rank + rotation.rope_dim);
    copy_columns(latent + row * ld_latent, rank, to);
    const RowRotation rotate(rotation, row, 1);
    rotate(k_rope + row * ld_k_rope, to + rank);
  }
}

size_t absorbed_scratch(int64_t rank) { return static_cast<size_t>(kRows * rank) * sizeof(float); }

template <class T>
void absorb_queries(const AbsorbedRows<T>& a, const PairRotation& rotation, int64_t head, int64_t begin, int64_t end,
                    void* scratch) {
  int64_t row = begin;
  for (; row + kRows <= end; row += kRows)
    absorb_query_rows<kRows>(a, rotation, head, row, static_cast<float*>(scratch));
  for (; row < end; ++row) absorb_query_rows<1>(a, rotation, head, row, static_cast<float*>(scratch));
}

template <class T>
void absorb_values(const AbsorbedRows<T>& a, int64_t head, int64_t begin, int64_t end) {
  int64_t row = begin;
  for (; row + kRows <= end; row += kRows) absorb_value_rows<kRows>(a, head, row);
  for (; row < end; ++row) absorb_value_rows<1>(a, head, row);
}

#define DF_INSTANTIATE(T)                                                                                        \
  template void latent_rows(const LatentRows<T>&, int64_t, int64_t);                                             \
  template void latent_rows_gradient(const LatentRows<T>&, int64_t, int64_t);                                    \
  template void latent_key_rows(const T*, int64_t, const T*, int64_t, int64_t, const PairRotation&, T*, int64_t, \
                                int64_t);                                                                        \
  template void absorb_queries(const AbsorbedRows<T>&, const PairRotation&, int64_t, int64_t, int64_t, void*);   \
  template void absorb_values(const AbsorbedRows<T>&, int64_t, int64_t, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(BF16)
DF_INSTANTIATE(F16)

}  // namespace deepflow::cpu::DF_ISA
