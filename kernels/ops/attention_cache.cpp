#include "kernels/ops/attention_groups.h"
#include "kernels/ops/compute_type.h"

#include <cstring>

namespace deepflow {
namespace {

constexpr int64_t kDecodeRows = 4;  // up to here packing the keys costs more than it saves

// One sequence's keys and values of one head, in the cache behind what is stored.
void append(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache, int layer,
            int64_t sequence, int64_t kv_head) {
  const int64_t n = context.rows.sequence, element = static_cast<int64_t>(size_of(qkv.dtype()));
  const int64_t bytes = shape.head_dim * element, keys = shape.heads + kv_head, values = keys + shape.kv_heads;
  const char* from = static_cast<const char*>(qkv.raw()) + sequence * n * qkv.ld() * element;
  const int64_t at = ((sequence * shape.kv_heads + kv_head) * cache.capacity() + cache.length()) * bytes;
  char* k = static_cast<char*>(cache.keys(layer).raw()) + at;
  char* v = static_cast<char*>(cache.values(layer).raw()) + at;
  for (int64_t row = 0; row < n; ++row, from += qkv.ld() * element) {
    std::memcpy(k + row * bytes, from + keys * bytes, static_cast<size_t>(bytes));
    std::memcpy(v + row * bytes, from + values * bytes, static_cast<size_t>(bytes));
  }
}

template <class T>
void attend(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache, int layer,
            Tensor& o) {
  Runtime& runtime = context.runtime;
  const RowInfo& rows = context.rows;
  const int64_t length = cache.length() + rows.sequence;
  const auto append_group = [&](int64_t i) {
    append(context, qkv, shape, cache, layer, i / shape.kv_heads, i % shape.kv_heads);
  };
  const auto group = [&](int64_t i) {
    auto a = attention_group<T>(shape, rows, qkv, o, nullptr, i / shape.kv_heads, i % shape.kv_heads);
    const int64_t at = i * cache.capacity() * shape.head_dim;
    a.k = cache.keys(layer).data<T>() + at;
    a.v = cache.values(layer).data<T>() + at;
    a.ld_k = a.ld_v = shape.head_dim;
    a.kv_rows = length;
    a.past = cache.length();
    return a;
  };
  if (rows.sequence <= kDecodeRows) {
    auto* kernel = DF_KERNEL(runtime.isa(), attention_decode<T>);
    const size_t bytes = static_cast<size_t>(shape.heads / shape.kv_heads * length) * sizeof(float);
    // Every thread has neighbouring groups, so that it knows what it will read next.
    const int64_t groups = rows.batch * shape.kv_heads, group_elements = cache.capacity() * shape.head_dim;
    const AttentionScratch scratch(runtime, runtime.pool().size(), bytes);
    runtime.pool().run([&](int thread, int threads) {
      for (int64_t i = groups * thread / threads; i < groups * (thread + 1) / threads; ++i) {
        append_group(i);
        const auto a = group(i);
        kernel(a, a.k + group_elements, static_cast<float*>(scratch.piece(thread)));
      }
    });
    return;
  }
  runtime.pool().parallel_for_dynamic(rows.batch * shape.kv_heads, append_group);
  auto* kernel = DF_KERNEL(runtime.isa(), attention_forward<T>);
  auto* scratch_bytes = DF_KERNEL(runtime.isa(), attention_forward_scratch<T>);
  const AttentionTasks tasks(runtime, rows.batch, shape.kv_heads, max_parts(rows));
  const AttentionScratch scratch(runtime, runtime.pool().size(), scratch_bytes(group(0)));
  tasks.run(runtime,
            [&](int thread, int64_t i, int64_t part) { kernel(group(i), part, tasks.parts, scratch.piece(thread)); });
}

}  // namespace

KeyValueCache::KeyValueCache(Runtime& runtime, int num_layers, int64_t batch, int64_t capacity, int64_t kv_heads,
                             int64_t head_dim, DType dtype)
    : capacity_(capacity) {
  for (int layer = 0; layer < num_layers; ++layer) {
    keys_.push_back(Tensor::empty(runtime.memory(), {batch, kv_heads, capacity, head_dim}, dtype));
    values_.push_back(Tensor::empty(runtime.memory(), {batch, kv_heads, capacity, head_dim}, dtype));
  }
}

KeyValueCache KeyValueCache::repeated(Runtime& runtime, int64_t batch, int64_t capacity) const {
  const Shape& shape = keys_.front().shape();
  DF_ASSERT(shape[0] == 1 && length_ <= capacity, "{} tokens of {}", length_, shape.to_string());
  const int64_t kv_heads = shape[1], head_dim = shape[3];
  const DType dtype = keys_.front().dtype();
  KeyValueCache result(runtime, static_cast<int>(keys_.size()), batch, capacity, kv_heads, head_dim, dtype);
  result.length_ = length_;
  const int64_t row_bytes = head_dim * static_cast<int64_t>(size_of(dtype));
  const auto copy_heads = [&](const Tensor& from, Tensor& to) {
    runtime.pool().parallel_for(batch * kv_heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(static_cast<char*>(to.raw()) + i * capacity * row_bytes,
                    static_cast<const char*>(from.raw()) + i % kv_heads * capacity_ * row_bytes,
                    static_cast<size_t>(length_ * row_bytes));
    });
  };
  for (size_t layer = 0; layer < keys_.size(); ++layer) {
    copy_heads(keys_[layer], result.keys_[layer]);
    copy_heads(values_[layer], result.values_[layer]);
  }
  return result;
}

Tensor attention_cached(ForwardContext& context, const Tensor& qkv, const AttentionShape& shape, KeyValueCache& cache,
                        int layer) {
  const RowInfo& rows = context.rows;
  check_attention(context, qkv, shape, cache.length());
  DF_ASSERT(cache.length() + rows.sequence <= cache.capacity(), "{} + {} tokens in a cache of {}", cache.length(),
            rows.sequence, cache.capacity());
  DF_ASSERT(cache.keys(layer).dtype() == context.compute &&
            cache.keys(layer).shape() == (Shape{rows.batch, shape.kv_heads, cache.capacity(), shape.head_dim}));
  Tensor o = context.empty({rows.rows(), shape.heads * shape.head_dim}, context.compute);
  if (rows.rows() == 0) return o;
  with_compute_type(context.compute, [&](auto t) { attend<decltype(t)>(context, qkv, shape, cache, layer, o); });
  return o;
}

}  // namespace deepflow
