#pragma once

#include "core/context.h"

#include <span>
#include <vector>

namespace deepflow {

struct AttentionShape {
  int64_t heads = 1, kv_heads = 1, head_dim = 64;  // head_dim: columns of a query and of a key head, even
  float scale = 0.125f;                            // usually 1 / sqrt(head_dim)
  int64_t window = 0;     // sliding window: a row sees itself and window - 1 rows before it; 0: no limit
  float softcap = 0;      // c > 0: scores are c * tanh(scale * q . k / c) (Gemma 2); 0: scale * q . k
  int64_t value_dim = 0;  // columns of a value head, even; 0: head_dim

  int64_t value_columns() const { return value_dim > 0 ? value_dim : head_dim; }  // of one value head
  // Columns of all heads.
  int64_t query_width() const { return heads * head_dim; }
  int64_t key_width() const { return kv_heads * head_dim; }
  int64_t value_width() const { return kv_heads * value_columns(); }
  int64_t qkv_width() const { return query_width() + key_width() + value_width(); }
  int64_t out_width() const { return heads * value_columns(); }
};

// Causal self-attention, blocked with an online softmax (Dao et al. 2022): never a T x T matrix in memory; blocks
// without an unmasked entry (above the diagonal, other documents, outside the window) are never touched.
// qkv [M, heads * head_dim + kv_heads * head_dim + kv_heads * value_dim]: queries, keys, values side by side, compute
// dtype; rows as in context.rows (document_start masks). Several query heads share one key head: head h reads h /
// (heads / kv_heads). Returns o [M, heads * value_dim]. Saves the log-sum-exp, f32 [batch, heads, sequence].
// largest [heads]: raised to the largest score of each head over these rows, as the softmax sees it; empty: not wanted.
Var attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, std::span<float> largest = {});

// What a cache holds of a token in one layer.
struct CacheShape {
  int64_t kv_heads = 1, key_dim = 64, value_dim = 64;
  // Without memory for values: a value is the first value_dim columns of its key (the compressed rows of multi-head
  // latent attention, DeepSeek-V2 2024, section 2.1).
  bool values_in_keys = false;

  int64_t columns() const { return kv_heads * (key_dim + (values_in_keys ? 0 : value_dim)); }
  friend bool operator==(const CacheShape&, const CacheShape&) = default;
};

// Keys and values of the tokens seen so far, for generation. One layer: [batch, kv_heads, capacity, key_dim] and
// [batch, kv_heads, capacity, value_dim], so that a head reads on through memory.
class KeyValueCache {
 public:
  KeyValueCache(Runtime& runtime, int num_layers, int64_t batch, int64_t capacity, const CacheShape& shape,
                DType dtype);
  // A cache of `batch` sequences that all continue the only one of this cache.
  KeyValueCache repeated(Runtime& runtime, int64_t batch, int64_t capacity) const;
  const CacheShape& shape() const { return shape_; }
  int64_t length() const { return length_; }  // tokens per sequence already stored
  int64_t capacity() const { return capacity_; }
  void advance(int64_t tokens) { length_ += tokens; }  // after every layer has appended
  void truncate(int64_t length) { length_ = length; }
  Tensor& keys(int layer) { return keys_.at(static_cast<size_t>(layer)); }
  Tensor& values(int layer) { return values_.at(static_cast<size_t>(layer)); }  // none where they are in the keys

 private:
  CacheShape shape_;
  int64_t length_ = 0, capacity_;
  std::vector<Tensor> keys_, values_;
};

// Inference: appends this call's keys and values (context.rows.sequence new rows per sequence, already rotated) to
// `layer` of the cache behind its length() tokens and attends to everything stored. No tape. document_start counts the
// cache's rows: with it, sequences padded on the left skip their padding. The caller keeps within the capacity.
// Where the cache keeps values in keys, qkv ends with the keys: [M, heads * head_dim + kv_heads * head_dim].
Tensor attention_cached(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache,
                        int layer);
// Only stores keys [M, key_dim] of a cache with one key head that keeps values in keys: whoever reads a prompt attends
// to it otherwise.
void append_keys(ForwardContext& context, const Tensor& keys, KeyValueCache& cache, int layer);

}  // namespace deepflow
