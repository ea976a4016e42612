#pragma once

#include "kernels/cpu/isa.h"

#include <cstddef>
#include <cstdint>

namespace deepflow::cpu {

// The query heads of one sequence that share one key head. Pointers are at the sequence's first row and the group's
// first column; ld: elements from one row to the next. Query row r stands at key row kv_rows - q_rows + r = a and
// attends to key rows max(document_start[r], a - window + 1) .. a.
template <class T>
struct AttentionGroup {
  const T *q, *k, *v;
  int64_t ld_q, ld_k, ld_v;
  T* o;  // [q_rows, heads * head_dim]; the backward pass reads it
  int64_t ld_o;
  float* lse;                     // [heads, q_rows]: log of the sum of exp(score); null: not wanted
  const int32_t* document_start;  // [q_rows]; null: 0
  int64_t q_rows, kv_rows;
  int64_t heads, head_dim;
  int64_t window;  // 0: no limit
  float scale;
};

// What backward adds to a group; q_rows = kv_rows.
template <class T>
struct AttentionGradients {
  const T* d_o;
  T *dq, *dk, *dv;
  int64_t ld_do, ld_dqkv;
};

// A group may be cut in `parts` for several threads: forward by query blocks; backward by key blocks, where every part
// leaves its share of dq in its own scratch and attention_backward_finish adds them up in the order of the parts.
// Scratch: 64-byte aligned, as many bytes as *_scratch says, any content, one a part. head_dim: even.
// T: float, BF16.
DF_DECLARE_KERNELS(
    template <class T> size_t attention_forward_scratch(const AttentionGroup<T>& a);
    template <class T> void attention_forward(const AttentionGroup<T>& a, int64_t part, int64_t parts, void* scratch);

    template <class T> size_t attention_backward_scratch(const AttentionGroup<T>& a, int64_t parts);
    template <class T> void attention_backward(const AttentionGroup<T>& a, const AttentionGradients<T>& g, int64_t part,
                                               int64_t parts, void* scratch);
    // For parts > 1, one head; scratch: of part 0, those of the others follow at stride_bytes.
    template <class T> void attention_backward_finish(const AttentionGroup<T>& a, const AttentionGradients<T>& g,
                                                      int64_t head, int64_t parts, void* scratch, size_t stride_bytes);

    // Few query rows against many keys: reads keys and values once, in place. Scratch: heads * kv_rows floats.
    // next_keys: what the thread will read after this group, asked for early; any address.
    template <class T> void attention_decode(const AttentionGroup<T>& a, const T* next_keys, float* scratch);)

}  // namespace deepflow::cpu
