#pragma once

#include "kernels/cpu/isa.h"

#include <cstddef>
#include <cstdint>

namespace deepflow::cpu {

// An online softmax under way, whose keys arrive in several runs (Milakov & Gimelshein 2018). In f32, so that nothing
// is lost between the runs.
struct AttentionState {
  float* out;            // [q_rows, heads * value_dim]: sum of exp(score - maximum) * value; null: one run is all
  int64_t ld_out;        //
  float *maximum, *sum;  // [heads, q_rows]: largest score, sum of exp(score - maximum)
  bool begun;            // false: there was no run before, whatever the memory holds
};

// The query heads of one sequence that share one key head, over a run of query rows and a run of key rows. Pointers are
// at the first row of the run and the group's first column; ld: elements from one row to the next. Query row r stands
// at key row past + r = a and attends to key rows max(0, document_start[r] - origin, a - window + 1) .. min(a, kv_rows
// - 1), which may be none where keys arrive in several runs.
template <class T>
struct AttentionGroup {
  const T *q, *k, *v;
  int64_t ld_q, ld_k, ld_v;
  T* o;  // [q_rows, heads * value_dim]; the backward pass reads it
  int64_t ld_o;
  float* lse;                     // [heads, q_rows]: log of the sum of exp(score); null: not wanted
  float* largest;                 // [heads], a part's own: raised to its largest score (softcapped); null: not wanted
  const int32_t* document_start;  // [q_rows]; null: 0
  int64_t q_rows, kv_rows;
  int64_t past;                        // key rows before query row 0 when nothing is missing between the two runs
  int64_t origin;                      // what document_start counts key row 0 as
  int64_t heads, head_dim, value_dim;  // columns of a query and of a key; of a value
  int64_t window;                      // 0: no limit
  float scale;
  float softcap;         // c > 0: scores are c * tanh(scale * q . k / c); 0: scale * q . k
  AttentionState state;  // forward only
};

// What backward adds to a group, of which o and lse are those over all runs of keys. The runs are the same rows (past =
// 0, q_rows = kv_rows), or all keys stand before all queries (past >= kv_rows). kAdds: to what dq, dk and dv hold, for
// keys in several runs; else they are overwritten.
template <class T, class Out = T, bool kAdds = false>
struct AttentionGradients {
  using Element = T;
  static constexpr bool kAdd = kAdds;
  const T* d_o;
  Out *dq, *dk, *dv;
  int64_t ld_do, ld_dq, ld_dkv;
};

// A group may be cut in `parts` for several threads: forward by query blocks; backward by key blocks, where every part
// leaves its share of dq in its own scratch and attention_backward_finish adds them up in the order of the parts.
// Scratch: 64-byte aligned, as many bytes as *_scratch says, any content, one a part. head_dim, value_dim:
// even.
// Keys and values may be the same memory (ld_k = ld_v, v = k), except in backward. T: float, BF16, F16; G:
// AttentionGradients.
DF_DECLARE_KERNELS(
    template <class T> size_t attention_forward_scratch(const AttentionGroup<T>& a);
    template <class T> void attention_forward(const AttentionGroup<T>& a, int64_t part, int64_t parts, void* scratch);
    // o, lse, largest from a state after its last run. o, lse: perhaps the memory of state.out and state.maximum.
    template <class T> void attention_forward_finish(const AttentionGroup<T>& a);

    template <class T> size_t attention_backward_scratch(const AttentionGroup<T>& a, int64_t parts);
    template <class G> void attention_backward(const AttentionGroup<typename G::Element>& a, const G& g, int64_t part,
                                               int64_t parts, void* scratch);
    // For parts > 1, one head; scratch: of part 0, those of the others follow at stride_bytes.
    template <class G> void attention_backward_finish(const AttentionGroup<typename G::Element>& a, const G& g,
                                                      int64_t head, int64_t parts, void* scratch, size_t stride_bytes);

    // Few query rows against many keys: reads keys and values once, in place. Scratch: heads * kv_rows floats.
    // next_keys: what the thread will read after this group, asked for early; any address.
    template <class T> void attention_decode(const AttentionGroup<T>& a, const T* next_keys, float* scratch);)

}  // namespace deepflow::cpu
