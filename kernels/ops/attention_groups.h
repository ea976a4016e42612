#pragma once

#include "core/error.h"
#include "kernels/cpu/attention.h"
#include "kernels/ops/attention.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <span>
#include <vector>

namespace deepflow {

// How attention is dealt over threads: by groups (sequence, key head), which share nothing that is written; where
// there are fewer groups than threads, each is cut in parts.
struct AttentionTasks {
  int64_t groups, parts;

  AttentionTasks(const Runtime& runtime, int64_t batch, int64_t kv_heads, int64_t max_parts)
      : groups(batch * kv_heads) {
    const int64_t wanted = (runtime.pool().size() + groups - 1) / std::max<int64_t>(groups, 1);
    parts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(max_parts, 1));
  }
  // f(thread, group, part), taken one by one by whichever thread is free.
  template <class F>
  void run(const Runtime& runtime, F&& f) const {
    std::atomic<int64_t> next{0};
    runtime.pool().run([&](int thread, int) {
      for (int64_t task = next++; task < groups * parts; task = next++) f(thread, task / parts, task % parts);
    });
  }
};

// How many parts of a group have work: one a block of rows.
inline int64_t max_parts(int64_t rows) {
  constexpr int64_t kBlockRows = 64;  // the kernels' block
  return (rows + kBlockRows - 1) / kBlockRows;
}
inline int64_t max_parts(const RowInfo& rows) { return max_parts(rows.sequence); }

// One block of memory cut in `count` pieces for the kernels.
struct AttentionScratch {
  Tensor memory;
  size_t stride;

  AttentionScratch(Runtime& runtime, int64_t count, size_t bytes) : stride((bytes + 63) / 64 * 64) {
    memory = Tensor::empty(runtime.memory(), {count, static_cast<int64_t>(stride)}, DType::kU8);
  }
  void* piece(int64_t i) const { return memory.data<uint8_t>() + static_cast<size_t>(i) * stride; }
};

// The largest scores that the parts of groups report, one place for each. Without heads nothing is wanted.
class LargestScores {
 public:
  // heads: of a group.
  LargestScores(const AttentionTasks& tasks, int64_t heads, bool wanted)
      : heads_(heads),
        parts_(tasks.parts),
        values_(wanted ? static_cast<size_t>(tasks.groups * tasks.parts * heads) : 0,
                -std::numeric_limits<float>::infinity()) {}
  float* place(int64_t group, int64_t part) {
    return values_.empty() ? nullptr : values_.data() + (group * parts_ + part) * heads_;
  }
  // largest: of the heads of all key heads; the groups are those of sequence after sequence.
  void raise(std::span<float> largest) const {
    for (size_t i = 0; i < values_.size(); ++i) {
      const auto at = static_cast<int64_t>(i), group = at / (parts_ * heads_);
      float& known = largest[static_cast<size_t>((group * heads_ + at % heads_)) % largest.size()];
      known = std::max(known, values_[i]);
    }
  }

 private:
  int64_t heads_, parts_;
  std::vector<float> values_;
};

// The group of (sequence, key head) over the rows of qkv and o, masks as in `rows`. Keys and values beside the queries.
template <class T>
cpu::AttentionGroup<T> attention_group(const AttentionShape& shape, const RowInfo& rows, const Tensor& qkv, Tensor& o,
                                       float* lse, int64_t sequence, int64_t kv_head) {
  const int64_t first_row = sequence * rows.sequence, heads = shape.heads / shape.kv_heads;
  const T* q = qkv.data<T>() + first_row * qkv.ld();
  cpu::AttentionGroup<T> a{};
  a.q = q + kv_head * heads * shape.head_dim;
  a.k = q + (shape.heads + kv_head) * shape.head_dim;
  a.v = q + shape.query_width() + shape.key_width() + kv_head * shape.value_columns();
  a.ld_q = a.ld_k = a.ld_v = qkv.ld();
  a.o = o.data<T>() + first_row * o.ld() + kv_head * heads * shape.value_columns();
  a.ld_o = o.ld();
  if (lse) a.lse = lse + (sequence * shape.heads + kv_head * heads) * rows.sequence;
  if (rows.document_start.defined()) a.document_start = rows.document_start.data<int32_t>() + first_row;
  a.q_rows = a.kv_rows = rows.sequence;
  a.heads = heads;
  a.head_dim = shape.head_dim;
  a.value_dim = shape.value_columns();
  a.window = shape.window;
  a.scale = shape.scale;
  a.softcap = shape.softcap;
  return a;
}

// Our own bugs: shapes that do not fit (qkv_width: columns expected of qkv), masks that point past their row.
void check_attention(const ForwardContext& context, const Tensor& qkv, int64_t qkv_width, const AttentionShape& shape,
                     int64_t past);

}  // namespace deepflow
