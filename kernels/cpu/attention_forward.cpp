#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/simd_math.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr float kNothingYet = -1e20f;  // running maximum of a row without an entry
constexpr float kMasked = -1e30f;      // exp(scale * kMasked - kNothingYet) is 0

template <class E>
struct ForwardScratch {
  E *keys, *values;             // right operands: per key block keys transposed, values with rows paired
  E *queries, *weights;         // left operands of one query block: [64, padded head], exp(score - maximum) [64, 64]
  float *scores, *out;          // [64, 64], [64, padded value]
  float *maximum, *correction;  // [64]
  float* sums;                  // [64, kLanes]: sums of weights, still spread over the lanes
  size_t bytes;

  template <class T>
  ForwardScratch(const AttentionGroup<T>& a, void* base) {
    const int64_t blocks = (a.kv_rows + kBlock - 1) / kBlock;
    const int64_t padded = padded_head(a.head_dim), padded_value = padded_head(a.value_dim);
    Scratch s{static_cast<char*>(base)};
    keys = s.take<E>(blocks * kBlock * padded);
    values = s.take<E>(blocks * kBlock * padded_value);
    queries = s.take<E>(kBlock * larger(padded, padded_value));
    weights = s.take<E>(kBlock * kBlock);
    scores = s.take<float>(kBlock * kBlock);
    out = s.take<float>(kBlock * padded_value);
    maximum = s.take<float>(kBlock);
    correction = s.take<float>(kBlock);
    sums = s.take<float>(kBlock * kLanes);
    bytes = s.used;
  }
};

// Rows and keys of one step of the online softmax, and which of its entries exist.
struct Step {
  int64_t rows, keys;    // padded to 16
  const int64_t* first;  // [rows]: first key of every row, as a column of this block
  int64_t diagonal;      // last key of row 0, as a column of this block
  int64_t last;          // last key that there is, likewise
  bool masked;

  // Keys that the strip of rows with row r sees at most.
  int64_t seen(int64_t r) const { return smaller(keys, round_up(diagonal + r / kStrip * kStrip + kStrip, kStrip)); }
};

// Soft cap: products become their tanh.
template <class T, class E>
void squash_scores(const AttentionGroup<T>& a, const ForwardScratch<E>& s, const Step& step) {
  const F32 factor = splat(a.scale / a.softcap);
  for (int64_t r = 0; r < step.rows; ++r)
    for (int64_t c = 0; c < step.seen(r); c += kLanes) {
      float* at = s.scores + r * kBlock + c;
      store(at, squash(a.q, load(at) * factor));
    }
}

// Raises the rows' maxima to those of this block; correction = exp(old - new).
template <class E>
void raise_maxima(const ForwardScratch<E>& s, const Step& step, float scale) {
  float lane_index[kLanes], block_maximum[kBlock];
  for (int64_t i = 0; i < kLanes; ++i) lane_index[i] = static_cast<float>(i);
  const F32 lane = load(lane_index);
  for (int64_t r = 0; r < step.rows; ++r) {
    float* row = s.scores + r * kBlock;
    const int64_t keys = step.seen(r);
    F32 top = splat(kMasked);
    if (step.masked) {
      const F32 first = splat(static_cast<float>(step.first[r])),
                last = splat(static_cast<float>(smaller(step.diagonal + r, step.last)));
      for (int64_t c = 0; c < keys; c += kLanes) {
        const F32 column = lane + splat(static_cast<float>(c));
        const F32 x = select((column >= first) & (column <= last), load(row + c), splat(kMasked));
        store(row + c, x);
        top = max(top, x);
      }
    } else {
      for (int64_t c = 0; c < keys; c += kLanes) top = max(top, load(row + c));
    }
    block_maximum[r] = reduce_max(top);
  }
  for (int64_t r = 0; r < step.rows; r += kLanes) {
    const F32 before = load(s.maximum + r), now = max(before, load(block_maximum + r) * splat(scale));
    store(s.correction + r, exp(before - now));
    store(s.maximum + r, now);
  }
}

// weights = exp(scale * score - maximum); what was summed so far moves to the new maximum.
template <class T, class E>
void weigh(const T* kind, const ForwardScratch<E>& s, const Step& step, int64_t padded, float scale) {
  const float base = exponent_unit(kind);
  const F32 factor = splat(scale * base);
  for (int64_t r = 0; r < step.rows; ++r) {
    const F32 maximum = splat(s.maximum[r] * base), correction = splat(s.correction[r]);
    F32 sum = load(s.sums + r * kLanes) * correction;
    const int64_t keys = step.seen(r);
    for (int64_t c = 0; c < keys; c += kLanes) {
      const F32 w = weight_of(kind, load(s.scores + r * kBlock + c), factor, maximum);
      store(s.weights + r * kBlock + c, w);
      sum = sum + w;
    }
    store(s.sums + r * kLanes, sum);
    if (s.correction[r] == 1.0f) continue;
    for (int64_t j = 0; j < padded; j += kLanes)
      store(s.out + r * padded + j, load(s.out + r * padded + j) * correction);
  }
}

// The softmax before the first key, or as the runs before have left it.
template <class T, class E>
void begin_rows(const AttentionGroup<T>& a, const ForwardScratch<E>& s, int64_t head, int64_t row, int64_t rows,
                int64_t padded_rows, int64_t padded) {
  for (int64_t r = 0; r < padded_rows; ++r) s.maximum[r] = kNothingYet;
  for (int64_t i = 0; i < padded_rows * kLanes; ++i) s.sums[i] = 0;
  for (int64_t i = 0; i < padded_rows * padded; ++i) s.out[i] = 0;
  if (!a.state.begun) return;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = head * a.q_rows + row + r;
    s.maximum[r] = a.state.maximum[at];
    s.sums[r * kLanes] = a.state.sum[at];
    const float* out = a.state.out + (row + r) * a.state.ld_out + head * a.value_dim;
    for_each_vector(a.value_dim, [&](int64_t j, auto lanes) { store(s.out + r * padded + j, load(out + j, lanes)); });
  }
}

template <class T, class E>
void keep_rows(const AttentionGroup<T>& a, const ForwardScratch<E>& s, int64_t head, int64_t row, int64_t rows,
               int64_t padded) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = head * a.q_rows + row + r;
    a.state.maximum[at] = s.maximum[r];
    a.state.sum[at] = reduce_add(load(s.sums + r * kLanes));
    float* out = a.state.out + (row + r) * a.state.ld_out + head * a.value_dim;
    for_each_vector(a.value_dim, [&](int64_t j, auto lanes) { store(out + j, load(s.out + r * padded + j), lanes); });
  }
}

template <class T, class E>
void write_rows(const AttentionGroup<T>& a, const ForwardScratch<E>& s, int64_t head, int64_t row, int64_t rows,
                int64_t padded) {
  for (int64_t r = 0; r < rows; ++r) {
    const float sum = reduce_add(load(s.sums + r * kLanes));
    const F32 inverse = splat(1.0f / sum);
    T* o = a.o + (row + r) * a.ld_o + head * a.value_dim;
    for_each_vector(a.value_dim,
                    [&](int64_t j, auto lanes) { store(o + j, load(s.out + r * padded + j) * inverse, lanes); });
    if (a.lse) a.lse[head * a.q_rows + row + r] = s.maximum[r] + __builtin_logf(sum);
    if (a.largest && s.maximum[r] > a.largest[head]) a.largest[head] = s.maximum[r];
  }
}

template <class T, class E>
void pack_keys(const AttentionGroup<T>& a, const ForwardScratch<E>& s, int64_t block) {
  const int64_t padded = padded_head(a.head_dim), padded_value = padded_head(a.value_dim);
  const int64_t row = block * kBlock, rows = smaller(kBlock, a.kv_rows - row), k = round_up(rows, 16);
  stage(a.k + row * a.ld_k, a.ld_k, rows, a.head_dim, s.queries, padded, k);
  transpose_lanes(s.queries, padded / kGroup<E>, k, padded / kGroup<E>, s.keys + row * padded, kBlock);
  stage(a.v + row * a.ld_v, a.ld_v, rows, a.value_dim, s.queries, padded_value, k);
  pair_rows(s.queries, padded_value, k, padded_value, s.values + row * padded_value, padded_value);
}

// One block of query rows of one head against every key block that they see.
template <class T, class E>
void attend(const AttentionGroup<T>& a, const ForwardScratch<E>& s, int64_t head, int64_t row) {
  const int64_t padded = padded_head(a.head_dim), padded_value = padded_head(a.value_dim), past = a.past;
  const int64_t rows = smaller(kBlock, a.q_rows - row), padded_rows = round_up(rows, 16);
  const int64_t end = smaller(a.kv_rows, past + row + rows);
  int64_t lowest = end, highest = 0, first[kBlock];
  for (int64_t r = 0; r < padded_rows; ++r) {
    first[r] = r < rows ? first_key(a, row + r) : first[rows - 1];
    lowest = smaller(lowest, first[r]);
    highest = larger(highest, first[r]);
  }
  if (a.state.begun && lowest == end) return;
  stage(a.q + row * a.ld_q + head * a.head_dim, a.ld_q, rows, a.head_dim, s.queries, padded, padded_rows);
  begin_rows(a, s, head, row, rows, padded_rows, padded_value);

  for (int64_t key = lowest / kBlock * kBlock; key < end; key += kBlock) {
    const int64_t keys = round_up(smaller(kBlock, a.kv_rows - key), 16);
    int64_t column[kBlock];
    for (int64_t r = 0; r < padded_rows; ++r) column[r] = first[r] - key;
    const Step step{padded_rows,
                    keys,
                    column,
                    past + row - key,
                    a.kv_rows - 1 - key,
                    highest > key || key + keys - 1 > past + row || key + keys > a.kv_rows};
    const int64_t strip = step.seen(0) < keys ? kStrip : padded_rows;
    for (int64_t r = 0; r < padded_rows; r += strip)
      multiply<false>(s.scores + r * kBlock, kBlock, s.queries + r * padded, padded, s.keys + key * padded, kBlock,
                      strip, step.seen(r), a.head_dim);
    if (a.softcap > 0) squash_scores(a, s, step);
    raise_maxima(s, step, score_scale(a));
    weigh(a.q, s, step, padded_value, score_scale(a));
    for (int64_t r = 0; r < padded_rows; r += strip)
      multiply<true>(s.out + r * padded_value, padded_value, s.weights + r * kBlock, kBlock,
                     s.values + key * padded_value, padded_value, strip, round_up(a.value_dim, 16), step.seen(r));
  }
  if (a.state.out)
    keep_rows(a, s, head, row, rows, padded_value);
  else
    write_rows(a, s, head, row, rows, padded_value);
}

}  // namespace

template <class T>
size_t attention_forward_scratch(const AttentionGroup<T>& a) {
  return ForwardScratch<typename OperandOf<T>::Type>(a, nullptr).bytes;
}

template <class T>
void attention_forward(const AttentionGroup<T>& a, int64_t part, int64_t parts, void* scratch) {
  const ForwardScratch<typename OperandOf<T>::Type> s(a, scratch);
  int64_t lowest = a.kv_rows;
  for (int64_t r = 0; r < a.q_rows; ++r) lowest = smaller(lowest, first_key(a, r));
  const int64_t last_block = (a.q_rows - 1) / kBlock;
  const int64_t own_last = last_block - (last_block - part % parts + parts) % parts;
  if (own_last < 0) return;
  const int64_t seen = smaller(a.kv_rows, a.past + smaller(a.q_rows, (own_last + 1) * kBlock));
  for (int64_t block = lowest / kBlock; block * kBlock < seen; ++block) pack_keys(a, s, block);
  for (int64_t row = part * kBlock; row < a.q_rows; row += parts * kBlock)
    for (int64_t head = 0; head < a.heads; ++head) attend(a, s, head, row);
}

template <class T>
void attention_forward_finish(const AttentionGroup<T>& a) {
  for (int64_t row = 0; row < a.q_rows; ++row)
    for (int64_t head = 0; head < a.heads; ++head) {
      const int64_t at = head * a.q_rows + row;
      const float sum = a.state.sum[at];
      const F32 inverse = splat(1.0f / sum);
      const float* out = a.state.out + row * a.state.ld_out + head * a.value_dim;
      T* o = a.o + row * a.ld_o + head * a.value_dim;
      for_each_vector(a.value_dim, [&](int64_t j, auto lanes) { store(o + j, load(out + j, lanes) * inverse, lanes); });
      if (a.largest && a.state.maximum[at] > a.largest[head]) a.largest[head] = a.state.maximum[at];
      if (a.lse) a.lse[at] = a.state.maximum[at] + __builtin_logf(sum);
    }
}

template size_t attention_forward_scratch(const AttentionGroup<float>&);
template size_t attention_forward_scratch(const AttentionGroup<BF16>&);
template size_t attention_forward_scratch(const AttentionGroup<F16>&);
template void attention_forward(const AttentionGroup<float>&, int64_t, int64_t, void*);
template void attention_forward(const AttentionGroup<BF16>&, int64_t, int64_t, void*);
template void attention_forward(const AttentionGroup<F16>&, int64_t, int64_t, void*);
template void attention_forward_finish(const AttentionGroup<float>&);
template void attention_forward_finish(const AttentionGroup<BF16>&);
template void attention_forward_finish(const AttentionGroup<F16>&);

}  // namespace deepflow::cpu::DF_ISA
