#include "kernels/ops/attention_groups.h"
#include "kernels/ops/compute_type.h"

#include <algorithm>
#include <cstring>

namespace deepflow {
namespace {

constexpr int64_t kDecodeRows = 4;  // up to here packing the keys costs more than it saves
constexpr int64_t kTileHeads = 16;  // unless they are packed for this many heads
constexpr int64_t kRunKeys = 512;   // keys packed at a time for many heads: they stay in a core's cache

int64_t group_heads(const AttentionShape& shape) { return shape.heads / shape.kv_heads; }

// One sequence's rows of one head, `columns` of x from `column` on, behind what is stored: into keys or values.
void append_columns(const ForwardContext& context, const Tensor& x, int64_t column, int64_t columns,
                    const KeyValueCache& cache, int64_t group, Tensor& to) {
  const int64_t n = context.rows.sequence, sequence = group / cache.shape().kv_heads;
  const int64_t element = static_cast<int64_t>(size_of(x.dtype())), bytes = columns * element;
  const char* from = static_cast<const char*>(x.raw()) + (sequence * n * x.ld() + column) * element;
  const int64_t at = group * cache.capacity() + cache.length();
  for (int64_t row = 0; row < n; ++row)
    std::memcpy(static_cast<char*>(to.raw()) + (at + row) * bytes, from + row * x.ld() * element,
                static_cast<size_t>(bytes));
}

// One sequence's keys and values of one head.
void append(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache, int layer,
            int64_t group) {
  const int64_t kv_head = group % shape.kv_heads;
  append_columns(context, qkv, shape.query_width() + kv_head * shape.head_dim, shape.head_dim, cache, group,
                 cache.keys(layer));
  if (cache.shape().values_in_keys) return;
  const int64_t value = shape.query_width() + shape.key_width() + kv_head * shape.value_columns();
  append_columns(context, qkv, value, shape.value_columns(), cache, group, cache.values(layer));
}

void check_room(const ForwardContext& context, const KeyValueCache& cache) {
  DF_ASSERT(cache.length() + context.rows.sequence <= cache.capacity(), "{} + {} tokens in a cache of {}",
            cache.length(), context.rows.sequence, cache.capacity());
}

// Attention of new rows to all rows of one layer of the cache.
template <class T>
class CachedAttention {
 public:
  CachedAttention(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache,
                  int layer, Tensor& o)
      : context_(context),
        runtime_(context.runtime),
        rows_(context.rows),
        qkv_(qkv),
        shape_(shape),
        cache_(cache),
        layer_(layer),
        o_(o) {}

  void run() {
    if (rows_.sequence > kDecodeRows)
      attend_in_blocks();
    else if (group_heads(shape_) >= kTileHeads)
      attend_with_heads_as_rows();
    else
      decode();
  }

 private:
  int64_t groups() const { return rows_.batch * shape_.kv_heads; }
  void append_group(int64_t i) { append(context_, qkv_, shape_, cache_, layer_, i); }

  cpu::AttentionGroup<T> group(int64_t i) {
    const bool in_keys = cache_.shape().values_in_keys;
    auto a = attention_group<T>(shape_, rows_, qkv_, o_, nullptr, i / shape_.kv_heads, i % shape_.kv_heads);
    a.ld_k = shape_.head_dim;
    a.ld_v = in_keys ? a.ld_k : shape_.value_columns();
    a.k = cache_.keys(layer_).template data<T>() + i * cache_.capacity() * a.ld_k;
    a.v = in_keys ? a.k : cache_.values(layer_).template data<T>() + i * cache_.capacity() * a.ld_v;
    a.kv_rows = cache_.length() + rows_.sequence;
    a.past = cache_.length();
    return a;
  }
  // Part `part` of `parts` of a group's heads, in whole tiles.
  cpu::AttentionGroup<T> heads_of(int64_t i, int64_t part, int64_t parts) {
    auto a = group(i);
    const int64_t tiles = (a.heads + kTileHeads - 1) / kTileHeads;
    const int64_t first = tiles * part / parts * kTileHeads;
    const int64_t end = std::min(a.heads, tiles * (part + 1) / parts * kTileHeads);
    a.q += first * a.head_dim;
    a.o += first * a.value_dim;
    a.heads = end - first;
    return a;
  }

  void decode() {
    auto* kernel = DF_KERNEL(runtime_.isa(), attention_decode<T>);
    const int64_t keys = cache_.length() + rows_.sequence;
    const AttentionScratch scratch(runtime_, runtime_.pool().size(),
                                   static_cast<size_t>(group_heads(shape_) * keys) * sizeof(float));
    // Every thread has neighbouring groups, so that it knows what it will read next.
    runtime_.pool().run([&](int thread, int threads) {
      for (int64_t i = groups() * thread / threads; i < groups() * (thread + 1) / threads; ++i) {
        append_group(i);
        const auto a = group(i);
        kernel(a, a.k + cache_.capacity() * a.ld_k, static_cast<float*>(scratch.piece(thread)));
      }
    });
  }

  void attend_in_blocks() {
    runtime_.pool().parallel_for_dynamic(groups(), [&](int64_t i) { append_group(i); });
    auto* kernel = DF_KERNEL(runtime_.isa(), attention_forward<T>);
    auto* scratch_bytes = DF_KERNEL(runtime_.isa(), attention_forward_scratch<T>);
    const int64_t tiles = std::max<int64_t>(1, group_heads(shape_) / kTileHeads);
    const AttentionTasks tasks(runtime_, rows_.batch, shape_.kv_heads, max_parts(rows_) * tiles);
    const int64_t row_parts = std::min(tasks.parts, max_parts(rows_)), head_parts = tasks.parts / row_parts;
    const AttentionScratch scratch(runtime_, runtime_.pool().size(), scratch_bytes(group(0)));
    tasks.run(runtime_, [&](int thread, int64_t i, int64_t part) {
      if (part < row_parts * head_parts)
        kernel(heads_of(i, part % head_parts, head_parts), part / head_parts, row_parts, scratch.piece(thread));
    });
  }

  // All heads of a token see the same keys: they are the rows of a block of queries, so that keys are packed once for
  // all of them and multiplied in tiles.
  void attend_with_heads_as_rows() {
    runtime_.pool().parallel_for_dynamic(groups(), [&](int64_t i) { append_group(i); });
    const AttentionTasks tasks(runtime_, rows_.batch, shape_.kv_heads, group_heads(shape_) / kTileHeads);
    cpu::AttentionGroup<T> largest = group(0);
    largest.kv_rows = std::min(largest.kv_rows, kRunKeys);
    const size_t kernel_bytes = DF_KERNEL(runtime_.isa(), attention_forward_scratch<T>)(largest);
    const size_t state_bytes = static_cast<size_t>(largest.heads * (largest.value_dim + 2)) * sizeof(float);
    const AttentionScratch scratch(runtime_, runtime_.pool().size(), kernel_bytes + state_bytes);
    tasks.run(runtime_, [&](int thread, int64_t i, int64_t part) {
      const auto a = heads_of(i, part, tasks.parts);
      char* memory = static_cast<char*>(scratch.piece(thread));
      for (int64_t row = 0; row < a.q_rows; ++row)
        attend_row(a, row, memory, reinterpret_cast<float*>(memory + kernel_bytes));
    });
  }

  void attend_row(const cpu::AttentionGroup<T>& heads, int64_t row, void* scratch, float* state) {
    auto* kernel = DF_KERNEL(runtime_.isa(), attention_forward<T>);
    const int64_t end = heads.past + row + 1;
    int64_t first = heads.document_start ? heads.document_start[row] : 0;
    if (heads.window > 0) first = std::max(first, end - heads.window);
    auto a = heads;
    a.q += row * heads.ld_q;
    a.ld_q = heads.head_dim;
    a.o += row * heads.ld_o;
    a.ld_o = heads.value_dim;
    a.q_rows = heads.heads;
    a.heads = 1;
    a.document_start = nullptr;
    a.window = 0;
    const bool runs = end - first > kRunKeys;
    float* statistics = state + a.q_rows * a.value_dim;
    if (runs) a.state = {state, a.value_dim, statistics, statistics + a.q_rows, false};
    for (; first < end; first += kRunKeys) {
      a.k = heads.k + first * a.ld_k;
      a.v = heads.v + first * a.ld_v;
      a.kv_rows = a.past = std::min(kRunKeys, end - first);
      kernel(a, 0, 1, scratch);
      a.state.begun = runs;
    }
    if (runs) DF_KERNEL(runtime_.isa(), attention_forward_finish<T>)(a);
  }

  ForwardContext& context_;
  Runtime& runtime_;
  const RowInfo& rows_;
  const Tensor& qkv_;
  const AttentionShape& shape_;
  KeyValueCache& cache_;
  int layer_;
  Tensor& o_;
};

}  // namespace

KeyValueCache::KeyValueCache(Runtime& runtime, int num_layers, int64_t batch, int64_t capacity, const CacheShape& shape,
                             DType dtype)
    : shape_(shape), capacity_(capacity) {
  DF_ASSERT(!shape.values_in_keys || shape.value_dim <= shape.key_dim, "values of {} columns in keys of {}",
            shape.value_dim, shape.key_dim);
  for (int layer = 0; layer < num_layers; ++layer) {
    keys_.push_back(Tensor::empty(runtime.memory(), {batch, shape.kv_heads, capacity, shape.key_dim}, dtype));
    if (!shape.values_in_keys)
      values_.push_back(Tensor::empty(runtime.memory(), {batch, shape.kv_heads, capacity, shape.value_dim}, dtype));
  }
}

KeyValueCache KeyValueCache::repeated(Runtime& runtime, int64_t batch, int64_t capacity) const {
  DF_ASSERT(keys_.front().shape()[0] == 1 && length_ <= capacity, "{} tokens of {}", length_,
            keys_.front().shape().to_string());
  const DType dtype = keys_.front().dtype();
  KeyValueCache result(runtime, static_cast<int>(keys_.size()), batch, capacity, shape_, dtype);
  result.length_ = length_;
  const auto copy_heads = [&](const Tensor& from, Tensor& to) {
    const int64_t row_bytes = from.shape()[3] * static_cast<int64_t>(size_of(dtype));
    runtime.pool().parallel_for(batch * shape_.kv_heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(static_cast<char*>(to.raw()) + i * capacity * row_bytes,
                    static_cast<const char*>(from.raw()) + i % shape_.kv_heads * capacity_ * row_bytes,
                    static_cast<size_t>(length_ * row_bytes));
    });
  };
  for (size_t layer = 0; layer < keys_.size(); ++layer) copy_heads(keys_[layer], result.keys_[layer]);
  for (size_t layer = 0; layer < values_.size(); ++layer) copy_heads(values_[layer], result.values_[layer]);
  return result;
}

void append_keys(ForwardContext& context, const Tensor& keys, KeyValueCache& cache, int layer) {
  const CacheShape& shape = cache.shape();
  check_room(context, cache);
  DF_ASSERT(shape.values_in_keys && shape.kv_heads == 1 && keys.cols() == shape.key_dim &&
            keys.rows() == context.rows.rows() && keys.dtype() == cache.keys(layer).dtype());
  for (int64_t i = 0; i < context.rows.batch; ++i)
    append_columns(context, keys, 0, shape.key_dim, cache, i, cache.keys(layer));
}

Tensor attention_cached(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache,
                        int layer) {
  const RowInfo& rows = context.rows;
  const bool in_keys = cache.shape().values_in_keys;
  check_attention(context, qkv, shape.query_width() + shape.key_width() + (in_keys ? 0 : shape.value_width()), shape,
                  cache.length());
  check_room(context, cache);
  DF_ASSERT(cache.shape() == (CacheShape{shape.kv_heads, shape.head_dim, shape.value_columns(), in_keys}));
  DF_ASSERT(cache.keys(layer).dtype() == context.compute && cache.keys(layer).shape()[0] == rows.batch);
  Tensor o = context.empty({rows.rows(), shape.out_width()}, context.compute);
  if (rows.rows() == 0) return o;
  with_compute_type(context.compute,
                    [&](auto t) { CachedAttention<decltype(t)>(context, qkv, shape, cache, layer, o).run(); });
  return o;
}

}  // namespace deepflow
