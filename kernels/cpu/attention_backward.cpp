#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd_math.h"

// Dao et al. 2022, algorithm 4, by key blocks and with everything transposed: scores are [keys, queries], so that
// log-sum-exp and the masks of the queries lie along the vectors.
namespace deepflow::cpu::DF_ISA {
namespace {

template <class E>
struct BackwardScratch {
  E *queries, *queries_t, *d_out, *d_out_t;  // right operands per query block: rows paired, and transposed
  E *keys, *values, *keys_t;                 // left operands of one key block
  E *stage_rows, *pairs;                     // operands on the way to their layout
  E *weights, *d_scores;                     // [64, 64]: transposed weights and the gradient of the scores
  float *scores, *d_weights;                 // [64, 64]
  float* dq;                                 // [heads or 1, query blocks, padded head, 64], transposed
  float *dk, *dv;                            // [key blocks or 1, 64, padded head or value]
  float *lse, *delta;         // [padded rows] of one head, lse as weight_of wants it; delta: rows of d_o * o
  int64_t *lowest, *highest;  // [query blocks]: range of the rows' first keys
  float* first;               // [padded rows]: first key of every query row
  size_t bytes;

  template <class T>
  BackwardScratch(const AttentionGroup<T>& a, int64_t parts, void* base) {
    const int64_t blocks = (a.q_rows + kBlock - 1) / kBlock;
    const int64_t padded = padded_head(a.head_dim), padded_value = padded_head(a.value_dim);
    const int64_t key_blocks = a.heads > 1 ? (a.kv_rows + kBlock - 1) / kBlock : 1;
    Scratch s{static_cast<char*>(base)};
    dq = s.take<float>((parts > 1 ? a.heads : 1) * blocks * kBlock * padded);  // first: the finish reads only this
    for (E** p : {&queries, &queries_t}) *p = s.take<E>(blocks * kBlock * padded);
    for (E** p : {&d_out, &d_out_t}) *p = s.take<E>(blocks * kBlock * padded_value);
    for (E** p : {&keys, &keys_t}) *p = s.take<E>(kBlock * padded);
    values = s.take<E>(kBlock * padded_value);
    stage_rows = s.take<E>(kBlock * larger(padded, padded_value));
    for (E** p : {&weights, &d_scores}) *p = s.take<E>(kBlock * kBlock);
    pairs = s.take<E>(kBlock * larger(kBlock, padded));
    for (float** p : {&scores, &d_weights}) *p = s.take<float>(kBlock * kBlock);
    dk = s.take<float>(key_blocks * kBlock * padded);
    dv = s.take<float>(key_blocks * kBlock * padded_value);
    for (float** p : {&lse, &delta, &first}) *p = s.take<float>(blocks * kBlock);
    for (int64_t** p : {&lowest, &highest}) *p = s.take<int64_t>(blocks);
    bytes = s.used;
  }
};

void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(p + i, zero());
}

template <class T, class E>
void find_first_keys(const AttentionGroup<T>& a, const BackwardScratch<E>& s) {
  for (int64_t row = 0, block = 0; row < a.q_rows; row += kBlock, ++block) {
    int64_t lowest = a.past + a.q_rows, highest = 0;
    for (int64_t r = row; r < row + kBlock; ++r) {
      const int64_t first = first_key_of_all(a, smaller(r, a.q_rows - 1));
      s.first[r] = static_cast<float>(first);
      lowest = smaller(lowest, first);
      highest = larger(highest, first);
    }
    s.lowest[block] = lowest;
    s.highest[block] = highest;
  }
}

// Right operands of one query block, its log-sum-exp and delta.
template <class T, class G, class E>
void pack_queries(const AttentionGroup<T>& a, const G& g, const BackwardScratch<E>& s, int64_t head, int64_t row) {
  const int64_t padded = padded_head(a.head_dim), padded_value = padded_head(a.value_dim);
  const int64_t rows = smaller(kBlock, a.q_rows - row), k = round_up(rows, 16), column = head * a.value_dim;
  stage(a.q + row * a.ld_q + head * a.head_dim, a.ld_q, rows, a.head_dim, s.stage_rows, padded, k);
  pair_rows(s.stage_rows, padded, k, padded, s.queries + row * padded, padded);
  transpose_lanes(s.stage_rows, padded / kGroup<E>, k, padded / kGroup<E>, s.queries_t + row * padded, kBlock);
  stage(g.d_o + row * g.ld_do + column, g.ld_do, rows, a.value_dim, s.stage_rows, padded_value, k);
  pair_rows(s.stage_rows, padded_value, k, padded_value, s.d_out + row * padded_value, padded_value);
  transpose_lanes(s.stage_rows, padded_value / kGroup<E>, k, padded_value / kGroup<E>, s.d_out_t + row * padded_value,
                  kBlock);
  for (int64_t r = row; r < row + k; ++r) {
    F32 sum = zero();
    if (r < a.q_rows)
      for_each_vector(a.value_dim, [&](int64_t j, auto lanes) {
        sum = fma(load(g.d_o + r * g.ld_do + column + j, lanes), load(a.o + r * a.ld_o + column + j, lanes), sum);
      });
    s.delta[r] = reduce_add(sum);
    s.lse[r] = r < a.q_rows ? a.lse[head * a.q_rows + r] * exponent_unit(a.q) : 0;
  }
}

template <class T, class E>
void pack_keys(const AttentionGroup<T>& a, const BackwardScratch<E>& s, int64_t key) {
  const int64_t padded = padded_head(a.head_dim);
  const int64_t rows = smaller(kBlock, a.kv_rows - key), k = round_up(rows, 16);
  stage(a.v + key * a.ld_v, a.ld_v, rows, a.value_dim, s.values, padded_head(a.value_dim), k);
  stage(a.k + key * a.ld_k, a.ld_k, rows, a.head_dim, s.keys, padded, k);
  // Lanes of paired keys [k / group, padded], transposed, are the transposed keys [padded, k].
  const int64_t lanes = round_up(k / kGroup<E>, 16);
  E* paired = s.pairs;
  for (int64_t i = 0; i < (lanes * kGroup<E> - k) * padded; i += kLanes) store(paired + k * padded + i, zero());
  pair_rows(s.keys, padded, k, padded, paired, padded);
  transpose_lanes(paired, padded, lanes, padded, s.keys_t, kBlock / kGroup<E>);
}

// From transposed scores and d_weights of one block: weights and d_scores, as operands.
template <bool kSoftcap, class T, class E>
void differentiate(const AttentionGroup<T>& a, const BackwardScratch<E>& s, int64_t key, int64_t keys, int64_t row,
                   int64_t rows, bool diagonal, bool masked) {
  float lane_index[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lane_index[i] = static_cast<float>(i);
  const F32 lane = load(lane_index), factor = splat(a.scale);
  const F32 exponent = splat(score_scale(a) * exponent_unit(a.q));
  for (int64_t c = 0; c < keys; ++c) {
    // Nobody sees what fills the last block up.
    const F32 column = splat(key + c < a.kv_rows ? static_cast<float>(key + c) : kInfinity);
    const int64_t first_row = diagonal ? c / kStrip * kStrip : 0;
    // The product that gives dq reads pairs of strips.
    for (int64_t r = first_row / (2 * kStrip) * 2 * kStrip; r < first_row; r += kLanes)
      store(s.d_scores + c * kBlock + r, zero());
    for (int64_t r = first_row; r < rows; r += kLanes) {
      const int64_t at = c * kBlock + r;
      F32 score = load(s.scores + at), slope = factor;
      if constexpr (kSoftcap) {
        score = squash(a.q, score * splat(a.scale / a.softcap));
        slope = fnma(score, score, splat(1.0f)) * factor;
      }
      F32 w = weight_of(a.q, score, exponent, load(s.lse + row + r));
      F32 d = load(s.d_weights + at) - load(s.delta + row + r);
      if (masked) {
        const F32 query = lane + splat(static_cast<float>(a.past + row + r)), first = load(s.first + row + r);
        w = select((column >= first) & (column <= query), w, zero());
        d = select(first >= query, zero(), d);  // of the only key that a row sees: 0, and no rounding error
      }
      store(s.weights + at, w);
      store(s.d_scores + at, w * d * slope);
    }
  }
}

template <bool kAdd, class Out, class Lanes>
DF_SIMD void store_or_add(Out* to, F32 x, Lanes lanes) {
  if constexpr (kAdd) x = x + load(to, lanes);
  store(to, x, lanes);
}

// dq of one head = the sum of the parts' transposed shares.
template <class T, class G>
void write_queries(const AttentionGroup<T>& a, const G& g, int64_t head, const float* first_part, int64_t parts,
                   size_t stride_bytes) {
  const int64_t padded = padded_head(a.head_dim);
  for (int64_t row = 0; row < a.q_rows; row += kBlock)
    for (int64_t j = 0; j < a.head_dim; j += kLanes)
      for (int64_t c = 0; c < kBlock && row + c < a.q_rows; c += kLanes) {
        F32 square[kLanes];
        for (int64_t i = 0; i < kLanes; ++i) {
          const char* at = reinterpret_cast<const char*>(first_part + row * padded + (j + i) * kBlock + c);
          square[i] = load(reinterpret_cast<const float*>(at));
          for (int64_t p = 1; p < parts; ++p)
            square[i] = square[i] + load(reinterpret_cast<const float*>(at + static_cast<size_t>(p) * stride_bytes));
        }
        transpose_square(square);
        const int64_t cols = smaller(kLanes, a.head_dim - j);
        for (int64_t i = 0; i < kLanes && row + c + i < a.q_rows; ++i) {
          auto* to = g.dq + (row + c + i) * g.ld_dq + head * a.head_dim + j;
          if (cols == kLanes)
            store_or_add<G::kAdd>(to, square[i], AllLanes{});
          else
            store_or_add<G::kAdd>(to, square[i], cols);
        }
      }
}

// Rows of one key block, `columns` of `padded`.
template <bool kAdd, class T, class Out>
void write_keys(const AttentionGroup<T>& a, Out* to, int64_t ld, const float* from, int64_t key, int64_t columns,
                int64_t padded) {
  for (int64_t r = key; r < smaller(key + kBlock, a.kv_rows); ++r)
    for_each_vector(columns, [&](int64_t j, auto lanes) {
      store_or_add<kAdd>(to + r * ld + j, load(from + (r - key) * padded + j), lanes);
    });
}

// One key block against every query block of one head that sees it.
template <class T, class E>
void attend_back(const AttentionGroup<T>& a, const BackwardScratch<E>& s, int64_t key, float* dq, float* dk,
                 float* dv) {
  const int64_t padded = padded_head(a.head_dim), cols = round_up(a.head_dim, 16);
  const int64_t padded_value = padded_head(a.value_dim), value_cols = round_up(a.value_dim, 16);
  const int64_t keys = round_up(smaller(kBlock, a.kv_rows - key), 16);
  const bool same_rows = a.past == 0;
  for (int64_t row = same_rows ? key : 0; row < a.q_rows; row += kBlock) {
    const int64_t block = row / kBlock, rows = round_up(smaller(kBlock, a.q_rows - row), 16);
    if (key + kBlock <= s.lowest[block]) continue;
    // On the diagonal, keys from c on are seen by queries from c on.
    const bool diagonal = same_rows && row == key;
    const int64_t strip = diagonal ? kStrip : keys;
    for (int64_t c = 0; c < keys; c += strip) {
      const int64_t r = diagonal ? c : 0, at = c * kBlock + r, operand = r * kGroup<E>;
      const E *q_t = s.queries_t + row * padded, *d_t = s.d_out_t + row * padded_value;
      multiply<false>(s.scores + at, kBlock, s.keys + c * padded, padded, q_t + operand, kBlock, strip, rows - r,
                      a.head_dim);
      multiply<false>(s.d_weights + at, kBlock, s.values + c * padded_value, padded_value, d_t + operand, kBlock, strip,
                      rows - r, a.value_dim);
    }
    const bool masked = diagonal || s.highest[block] > key || key + keys > a.kv_rows;
    if (a.softcap > 0)
      differentiate<true>(a, s, key, keys, row, rows, diagonal, masked);
    else
      differentiate<false>(a, s, key, keys, row, rows, diagonal, masked);
    for (int64_t c = 0; c < keys; c += strip) {
      const int64_t r = diagonal ? c : 0, at = c * kBlock + r;
      const E *d_out = s.d_out + (row + r) * padded_value, *queries = s.queries + (row + r) * padded;
      multiply<true>(dv + c * padded_value, padded_value, s.weights + at, kBlock, d_out, padded_value, strip,
                     value_cols, rows - r);
      multiply<true>(dk + c * padded, padded, s.d_scores + at, kBlock, queries, padded, strip, cols, rows - r);
    }
    pair_rows(s.d_scores, kBlock, keys, rows, s.pairs, kBlock);
    const int64_t columns = diagonal ? 2 * kStrip : rows;
    for (int64_t r = 0; r < rows; r += columns) {
      const int64_t width = smaller(columns, rows - r), summed = diagonal ? smaller(keys, r + width) : keys;
      multiply<true>(dq + row * padded + r, kBlock, s.keys_t, kBlock, s.pairs + r * kGroup<E>, kBlock, cols, width,
                     summed);
    }
  }
}

}  // namespace

template <class T>
size_t attention_backward_scratch(const AttentionGroup<T>& a, int64_t parts) {
  return BackwardScratch<typename OperandOf<T>::Type>(a, parts, nullptr).bytes;
}

template <class G>
void attention_backward(const AttentionGroup<typename G::Element>& a, const G& g, int64_t part, int64_t parts,
                        void* scratch) {
  const BackwardScratch<typename OperandOf<typename G::Element>::Type> s(a, parts, scratch);
  const int64_t padded = padded_head(a.head_dim), padded_value = padded_head(a.value_dim);
  const int64_t padded_rows = round_up(a.q_rows, kBlock);
  find_first_keys(a, s);
  for (int64_t head = 0; head < a.heads; ++head) {
    float* dq = s.dq + (parts > 1 ? head * padded_rows * padded : 0);
    clear(dq, padded_rows * padded);
    for (int64_t row = 0; row < a.q_rows; row += kBlock) pack_queries(a, g, s, head, row);
    for (int64_t key = part * kBlock; key < a.kv_rows; key += parts * kBlock) {
      const int64_t first = a.heads > 1 ? key : 0;
      float *dk = s.dk + first * padded, *dv = s.dv + first * padded_value;
      if (head == 0) {
        clear(dk, kBlock * padded);
        clear(dv, kBlock * padded_value);
      }
      pack_keys(a, s, key);
      attend_back(a, s, key, dq, dk, dv);
      if (head + 1 == a.heads) {
        write_keys<G::kAdd>(a, g.dk, g.ld_dkv, dk, key, a.head_dim, padded);
        write_keys<G::kAdd>(a, g.dv, g.ld_dkv, dv, key, a.value_dim, padded_value);
      }
    }
    if (parts == 1) write_queries(a, g, head, dq, 1, 0);
  }
}

template <class G>
void attention_backward_finish(const AttentionGroup<typename G::Element>& a, const G& g, int64_t head, int64_t parts,
                               void* scratch, size_t stride_bytes) {
  const BackwardScratch<typename OperandOf<typename G::Element>::Type> s(a, parts, scratch);
  const int64_t head_elements = round_up(a.q_rows, kBlock) * padded_head(a.head_dim);
  write_queries(a, g, head, s.dq + head * head_elements, parts, stride_bytes);
}

#define DF_INSTANTIATE(T, G)                                                                        \
  template void attention_backward<G>(const AttentionGroup<T>&, const G&, int64_t, int64_t, void*); \
  template void attention_backward_finish<G>(const AttentionGroup<T>&, const G&, int64_t, int64_t, void*, size_t);
using Floats = AttentionGradients<float>;
using Halves = AttentionGradients<BF16>;
using IeeeHalves = AttentionGradients<F16>;
using SumsOfFloats = AttentionGradients<float, float, true>;
using SumsOfHalves = AttentionGradients<BF16, float, true>;
using SumsOfIeeeHalves = AttentionGradients<F16, float, true>;
DF_INSTANTIATE(float, Floats)
DF_INSTANTIATE(BF16, Halves)
DF_INSTANTIATE(F16, IeeeHalves)
DF_INSTANTIATE(float, SumsOfFloats)
DF_INSTANTIATE(BF16, SumsOfHalves)
DF_INSTANTIATE(F16, SumsOfIeeeHalves)
template size_t attention_backward_scratch(const AttentionGroup<float>&, int64_t);
template size_t attention_backward_scratch(const AttentionGroup<BF16>&, int64_t);
template size_t attention_backward_scratch(const AttentionGroup<F16>&, int64_t);

}  // namespace deepflow::cpu::DF_ISA
