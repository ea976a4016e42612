#pragma once

#include "kernels/cpu/isa.h"

#include <cstddef>
#include <cstdint>

namespace deepflow::cpu {

// How rows rotate pairs (2i, 2i + 1) of their rope_dim columns.
struct PairRotation {
  int64_t rope_dim;
  const int32_t* positions;  // [rows]
  const float *cos, *sin;    // [positions, rope_dim / 2]
};

// What latent_qkv reads and writes (kernels/ops/latent_attention.h), or the gradients of the same.
template <class T>
struct LatentRows {
  int64_t heads, nope_dim, value_dim;
  PairRotation rotation;
  T *q, *kv, *k_rope, *qkv;
  int64_t ld_q, ld_kv, ld_k_rope, ld_qkv;
};

// Rows times one head's part of kv_up [heads * (nope_dim + value_dim), rank], row-major. x and y begin at head 0.
template <class T>
struct AbsorbedRows {
  int64_t nope_dim, value_dim, rank;
  const T* kv_up;
  const T* x;
  T* y;
  int64_t ld_x, ld_y;
};

// T: float, BF16, F16. Rows [begin, end).
DF_DECLARE_KERNELS(template <class T> void latent_rows(const LatentRows<T>& a, int64_t begin, int64_t end);
                   // From the gradient of qkv those of q, kv and k_rope.
                   template <class T> void latent_rows_gradient(const LatentRows<T>& a, int64_t begin, int64_t end);
                   // keys [rows, rank + rope_dim]: latent [rows, rank], then k_rope rotated.
                   template <class T>
                   void latent_key_rows(const T* latent, int64_t ld_latent, const T* k_rope, int64_t ld_k_rope,
                                        int64_t rank, const PairRotation& rotation, T* keys, int64_t begin,
                                        int64_t end);

                   size_t absorbed_scratch(int64_t rank);  // bytes, 64-byte aligned
                   // y [rows, heads * (rank + rope_dim)] of one head from x [rows, heads * (nope_dim + rope_dim)].
                   template <class T> void absorb_queries(const AbsorbedRows<T>& a, const PairRotation& rotation,
                                                          int64_t head, int64_t begin, int64_t end, void* scratch);
                   // y [rows, heads * value_dim] of one head from x [rows, heads * rank].
                   template <class T>
                   void absorb_values(const AbsorbedRows<T>& a, int64_t head, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
