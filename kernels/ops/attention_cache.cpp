#include "kernels/ops/attention_groups.h"
#include "kernels/ops/elementwise.h"

namespace deepflow {
namespace {

constexpr int64_t kDecodeRows = 4;  // up to here packing the keys costs more than it saves

void append(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache, int layer) {
  const int64_t n = context.rows.sequence, width = shape.kv_heads * shape.head_dim;
  const int64_t first_column = shape.heads * shape.head_dim;
  for (int64_t b = 0; b < context.rows.batch; ++b) {
    const int64_t row = b * cache.capacity() + cache.length();
    const Tensor mine = qkv.row_range(b * n, (b + 1) * n);
    Tensor keys = cache.keys(layer).row_range(row, row + n), values = cache.values(layer).row_range(row, row + n);
    copy(context.runtime, mine.column_range(first_column, first_column + width), keys);
    copy(context.runtime, mine.column_range(first_column + width, first_column + 2 * width), values);
  }
}

template <class T>
void attend(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache, int layer,
            Tensor& o) {
  Runtime& runtime = context.runtime;
  const RowInfo& rows = context.rows;
  const int64_t length = cache.length() + rows.sequence;
  const auto group = [&](int64_t i) {
    const int64_t sequence = i / shape.kv_heads, kv_head = i % shape.kv_heads;
    auto a = attention_group<T>(shape, rows, qkv, o, nullptr, sequence, kv_head);
    const int64_t at = sequence * cache.capacity() * cache.keys(layer).ld() + kv_head * shape.head_dim;
    a.k = cache.keys(layer).data<T>() + at;
    a.v = cache.values(layer).data<T>() + at;
    a.ld_k = a.ld_v = cache.keys(layer).ld();
    a.kv_rows = length;
    return a;
  };
  if (rows.sequence <= kDecodeRows) {
    auto* kernel = DF_KERNEL(runtime.isa(), attention_decode<T>);
    const size_t bytes = static_cast<size_t>(shape.heads / shape.kv_heads * length) * sizeof(float);
    const AttentionTasks tasks(runtime, rows.batch, shape.kv_heads, 1);
    const AttentionScratch scratch(runtime, runtime.pool().size(), bytes);
    tasks.run(runtime,
              [&](int thread, int64_t i, int64_t) { kernel(group(i), static_cast<float*>(scratch.piece(thread))); });
    return;
  }
  auto* kernel = DF_KERNEL(runtime.isa(), attention_forward<T>);
  auto* scratch_bytes = DF_KERNEL(runtime.isa(), attention_forward_scratch<T>);
  const AttentionTasks tasks(runtime, rows.batch, shape.kv_heads, max_parts(rows));
  const AttentionScratch scratch(runtime, runtime.pool().size(), scratch_bytes(group(0)));
  tasks.run(runtime,
            [&](int thread, int64_t i, int64_t part) { kernel(group(i), part, tasks.parts, scratch.piece(thread)); });
}

}  // namespace

KeyValueCache::KeyValueCache(Runtime& runtime, int num_layers, int64_t batch, int64_t capacity, int64_t kv_width,
                             DType dtype)
    : capacity_(capacity) {
  for (int layer = 0; layer < num_layers; ++layer) {
    keys_.push_back(Tensor::empty(runtime.memory(), {batch, capacity, kv_width}, dtype));
    values_.push_back(Tensor::empty(runtime.memory(), {batch, capacity, kv_width}, dtype));
  }
}

Tensor attention_cached(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache,
                        int layer) {
  const RowInfo& rows = context.rows;
  check_attention(context, qkv, shape, cache.length());
  DF_ASSERT(cache.length() + rows.sequence <= cache.capacity(), "{} + {} tokens in a cache of {}", cache.length(),
            rows.sequence, cache.capacity());
  DF_ASSERT(cache.keys(layer).dtype() == context.compute && cache.keys(layer).shape()[0] == rows.batch);
  Tensor o = context.empty({rows.rows(), shape.heads * shape.head_dim}, context.compute);
  if (rows.rows() == 0) return o;
  append(context, qkv, shape, cache, layer);
  if (context.compute == DType::kBF16)
    attend<BF16>(context, qkv, shape, cache, layer, o);
  else
    attend<float>(context, qkv, shape, cache, layer, o);
  return o;
}

}  // namespace deepflow
