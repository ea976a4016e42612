#pragma once

#include "engine/activation_memory.h"

#include <cstdint>

namespace deepflow {

// Bytes of this rank's tensors of one micro-batch in one block.
struct BlockTensors {
  int64_t stream;      // residual stream or its gradient, f32 [M, D]
  int64_t delta;       // what is still to be added to it, [M, D]
  int64_t statistics;  // of one norm
  int64_t normed;      // [M, D]
  int64_t gathered;    // the rows of all tp ranks, where these split them
  int64_t qkv, attended, lse;
  // Of latent attention: latent rows of queries, [M, query_rank], and of keys and values, [M, latent_rank], each kept
  // as it was and normed; both with the rotated columns of the keys, side by side; and queries, then keys and values,
  // as they are made of the normed rows.
  int64_t query_latent = 0, key_latent = 0, down = 0, queries_up = 0, keys_up = 0;
  int64_t latent_statistics = 0;
  int64_t before_qk_norm;    // queries and keys as they were
  int64_t before_post_norm;  // output of attention, and of the MLP
  int64_t wide;              // in front of the activation: [M, 2F] or [M, F]
  int64_t activated;         // [M, F]
  // Of a layer of experts: rows of its input and output as the experts here see them, and as they are sent and come
  // back, [M k etp, D]; equal where experts are not split.
  int64_t expert_rows = 0, sent_rows = 0;
  int64_t routing = 0;      // scores, choices, weights and slots
  int64_t router_rows = 0;  // what the router reads, or its gradient, in f32
  int64_t ids = 0;          // of a micro-batch: numbers of its rows
  int64_t by_heads;         // output of attention as Ulysses computes it, [M, A]
  int64_t summands;         // of the gradient to the rows, before they are summed

  explicit BlockTensors(const PassShape& shape);
  int64_t of_products() const;

 private:
  void count_latent_rows(const PassShape& shape, int64_t rows);
  void count_experts(const PassShape& shape, int64_t rows);
};

// Elements of this rank's matrices.
struct BlockMatrices {
  int64_t qkv, out, router, wide, down, table, positions;
  // Of latent attention, whose `qkv` is what reads the residual stream: those that make queries, keys and values.
  int64_t queries_up = 0, keys_up = 0;
  explicit BlockMatrices(const PassShape& shape);
  int64_t of_block() const { return qkv + queries_up + keys_up + out + router + wide + down; }
};

// What a block's MLP or experts take in forward on top of what the block keeps.
int64_t forward_bytes(const PassShape& shape, const BlockTensors& tensors, Recompute policy);

// Of attention's backward (kernels/cpu/attention_backward.cpp): every thread lays out one head's rows.
int64_t attention_scratch(const PassShape& shape);
// What the messages of attention's backward take beside what it reads: gradients in f32 and travelling keys and values
// of the ring, or copies on the way between rows and heads.
int64_t attention_messages(const PassShape& shape, const BlockTensors& tensors);

}  // namespace deepflow
