#pragma once

#include "core/context.h"

namespace deepflow {

struct AttentionShape {
  int64_t heads = 1, kv_heads = 1, head_dim = 64;  // head_dim: even
  float scale = 0.125f;                            // usually 1 / sqrt(head_dim)
  int64_t window = 0;  // sliding window: a row sees itself and window - 1 rows before it; 0: no limit
  float softcap = 0;   // c > 0: scores are c * tanh(scale * q . k / c) (Gemma 2); 0: scale * q . k
};

// Causal self-attention, blocked with an online softmax (Dao et al. 2022): never a T x T matrix in memory; blocks
// without an unmasked entry (above the diagonal, other documents, outside the window) are never touched.
// qkv [M, (heads + 2 kv_heads) * head_dim]: queries, keys, values side by side, compute dtype; rows as in context.rows
// (document_start masks). Several query heads share one key head: head h reads h / (heads / kv_heads).
// Returns o [M, heads * head_dim]. Saves the log-sum-exp, f32 [batch, heads, sequence].
Var attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape);

// Keys and values of the tokens seen so far, for generation. One layer: [batch, kv_heads, capacity, head_dim]
// each, so that a head reads on through memory.
class KeyValueCache {
 public:
  KeyValueCache(Runtime& runtime, int num_layers, int64_t batch, int64_t capacity, int64_t kv_heads, int64_t head_dim,
                DType dtype);
  // A cache of `batch` sequences that all continue the only one of this cache.
  KeyValueCache repeated(Runtime& runtime, int64_t batch, int64_t capacity) const;
  int64_t length() const { return length_; }  // tokens per sequence already stored
  int64_t capacity() const { return capacity_; }
  void advance(int64_t tokens) { length_ += tokens; }  // after every layer has appended
  void truncate(int64_t length) { length_ = length; }
  Tensor& keys(int layer) { return keys_.at(static_cast<size_t>(layer)); }
  Tensor& values(int layer) { return values_.at(static_cast<size_t>(layer)); }

 private:
  int64_t length_ = 0, capacity_;
  std::vector<Tensor> keys_, values_;
};

// Inference: appends this call's keys and values (context.rows.sequence new rows per sequence, already rotated) to
// `layer` of the cache behind its length() tokens and attends to everything stored. No tape. document_start counts the
// cache's rows: with it, sequences padded on the left skip their padding. The caller keeps within the capacity.
Tensor attention_cached(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache,
                        int layer);

}  // namespace deepflow
