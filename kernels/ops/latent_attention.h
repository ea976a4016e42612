#pragma once

#include "core/context.h"
#include "kernels/ops/rope.h"

namespace deepflow {

// Rows of multi-head latent attention (DeepSeek-V2 2024, section 2.1): a query or key head is nope_dim columns without
// and rope_dim columns with rotary positions; the rotated columns of the key are shared by all heads. Keys and values
// come from a latent of `rank` columns through kv_up [heads * (nope_dim + value_dim), rank], one parameter whose rows
// are, head after head, nope_dim rows of W_UK, then value_dim rows of W_UV.
// Pairs (2i, 2i + 1) are rotated where they stand (Su et al. 2021, equation 15), by a table for rope_dim columns.
// Positions as in context.rows; one beyond the table is a DataError.
struct LatentHeads {
  int64_t heads = 1, nope_dim = 128, rope_dim = 64, value_dim = 128;  // rope_dim: even

  int64_t key_dim() const { return nope_dim + rope_dim; }
  int64_t up_dim() const { return nope_dim + value_dim; }  // rows of kv_up of one head
};

// q [M, heads * (nope + rope)], per head nope then rope; kv [M, heads * (nope + value)], per head the key's part then
// the value; k_rope [M, rope], all of the compute dtype, any ld -> qkv [M, heads * (nope + rope) + heads * (nope +
// rope) + heads * value], as `attention` reads it with head_dim nope + rope and value_dim value. One pass over memory;
// so is backward, which keeps only positions. The gradient of k_rope is the sum over heads, in f32, rounded once.
Var latent_qkv(ForwardContext& context, const Var& q, const Var& kv, const Var& k_rope, const LatentHeads& heads,
               const RopeTable& table);

// Generation without keys and values of every head: with W_UK taken into the queries and W_UV into the output,
// attention reads the latents themselves (section 2.1.2). No tape. absorbed_qk, attention_cached with kv_heads 1,
// head_dim rank + rope, value_dim rank, values_in_keys and the scale of nope + rope columns, and absorbed_values give
// what latent_qkv and attention give, up to rounding. kv_up is read once, from the kRowMajor form, in the compute dtype
// and with sums in f32 (also where `linear` multiplies int8): rows of W_UK are added up and rows of W_UV multiplied, so
// both run along memory, and neither needs a packed form of its own; in f32 it is the master itself. A row's result is
// the same bits whatever rows stand beside it.

// latent [M, rank], after its norm, and k_rope [M, rope] -> the rows [M, rank + rope] of the cache, k_rope rotated.
Tensor latent_keys(ForwardContext& context, const Tensor& latent, const Tensor& k_rope, const RopeTable& table);
// q as above, keys [M, rank + rope] -> [M, heads * (rank + rope) + rank + rope]: per head q_nope W_UK and the rotated
// q_rope, then the keys.
Tensor absorbed_qk(ForwardContext& context, const Tensor& q, const Tensor& keys, Pack& kv_up, const LatentHeads& heads,
                   const RopeTable& table);
// o [M, heads * rank] -> [M, heads * value]: per head W_UV o.
Tensor absorbed_values(ForwardContext& context, const Tensor& o, Pack& kv_up, const LatentHeads& heads);

}  // namespace deepflow
