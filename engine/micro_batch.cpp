#include "engine/micro_batch.h"

#include <algorithm>

namespace deepflow {
namespace {

// Rows of samples [first, first + count) that lie in the spans of each.
class RowPicker {
 public:
  RowPicker(Runtime& runtime, const Batch& batch, int64_t first, int64_t count, const std::vector<RowSpan>& spans)
      : runtime_(runtime), sequence_(batch.sequence), first_(first), count_(count), spans_(spans) {
    for (const RowSpan& s : spans_) rows_a_sample_ += s.count;
    if (spans_.empty()) rows_a_sample_ = sequence_;
  }
  int64_t rows_a_sample() const { return rows_a_sample_; }
  int64_t rows() const { return count_ * rows_a_sample_; }

  Tensor operator()(const std::vector<int32_t>& values) const {
    int32_t* from = const_cast<int32_t*>(values.data()) + first_ * sequence_;
    if (spans_.empty()) return Tensor::wrap(from, {rows()}, DType::kI32);
    Tensor picked = Tensor::empty(runtime_.memory(), {rows()}, DType::kI32);
    int32_t* to = picked.data<int32_t>();
    for (int64_t sample = 0; sample < count_; ++sample)
      for (const RowSpan& s : spans_) to = std::copy_n(from + sample * sequence_ + s.first, s.count, to);
    return picked;
  }

  // Global token ids of the rows; the batch's first sample is number `first_sample` of the run.
  Tensor ids(int64_t first_sample) const {
    return make<int64_t>(DType::kI64,
                         [&](int64_t sample, int64_t t) { return (first_sample + sample) * sequence_ + t; });
  }

  // f(row of the batch, the row behind it, whether that is of the same document) of every row.
  template <class F>
  Tensor ahead(const std::vector<int32_t>& doc_start, F&& f) const {
    return make<int32_t>(DType::kI32, [&](int64_t sample, int64_t t) {
      const auto row = static_cast<size_t>(sample * sequence_ + t);
      return f(row, row + 1, t + 1 < sequence_ && doc_start[row] == doc_start[row + 1]);
    });
  }

 private:
  // f(sample of the batch, row of the sample) of every row.
  template <class T, class F>
  Tensor make(DType dtype, F&& f) const {
    Tensor made = Tensor::empty(runtime_.memory(), {rows()}, dtype);
    T* to = made.data<T>();
    const std::vector<RowSpan> whole{{0, sequence_}};
    for (int64_t sample = first_; sample < first_ + count_; ++sample)
      for (const RowSpan& s : spans_.empty() ? whole : spans_)
        for (int64_t t = s.first; t < s.first + s.count; ++t) *to++ = f(sample, t);
    return made;
  }

  Runtime& runtime_;
  int64_t sequence_, first_, count_, rows_a_sample_ = 0;
  const std::vector<RowSpan>& spans_;
};

bool deals_rows(const RowPlacement& placement) { return is_split(placement.tp) && placement.tp->sequence; }

// This rank's part of the rows of the residual stream.
struct DealtRows {
  int64_t begin, end;
  DealtRows(const RowPlacement& placement, int64_t rows)
      : begin(rows * placement.tp->rank() / placement.tp->size()),
        end(rows * (placement.tp->rank() + 1) / placement.tp->size()) {}
};

}  // namespace

MicroBatch take_micro_batch(Runtime& runtime, const Batch& batch, int64_t first, int64_t count,
                            const RowPlacement& placement) {
  const RowPicker pick(runtime, batch, first, count, placement.spans);
  MicroBatch m;
  m.tokens = pick(batch.tokens);
  m.labels = pick(batch.labels);
  m.rows.batch = count;
  m.rows.sequence = pick.rows_a_sample();
  m.rows.spans = placement.spans;
  m.rows.positions = pick(batch.positions);
  const auto starts = batch.doc_start.begin() + first * batch.sequence;
  if (std::any_of(starts, starts + count * batch.sequence, [](int32_t s) { return s != 0; }))
    m.rows.document_start = pick(batch.doc_start);
  m.rows.row_ids = pick.ids(batch.first_sample);
  if (placement.looks_ahead) {
    m.next_tokens = pick.ahead(batch.doc_start,
                               [&](size_t row, size_t next, bool same) { return batch.tokens[same ? next : row]; });
    m.next_labels = pick.ahead(
        batch.doc_start, [&](size_t, size_t next, bool same) { return same ? batch.labels[next] : kMaskedLabel; });
  }
  if (deals_rows(placement)) {
    const DealtRows mine(placement, pick.rows());
    m.rows.residual_ids = m.rows.row_ids.flat_range(mine.begin, mine.end);
  }
  return m;
}

int64_t stream_rows(const RowPlacement& placement, int64_t count, int64_t sequence) {
  int64_t rows = placement.spans.empty() ? sequence : 0;
  for (const RowSpan& s : placement.spans) rows += s.count;
  rows *= count;
  if (!deals_rows(placement)) return rows;
  const DealtRows mine(placement, rows);
  return mine.end - mine.begin;
}

Tensor label_weights(Runtime& runtime, const MicroBatch& input, float weight) {
  Tensor weights = Tensor::empty(runtime.memory(), {input.rows.rows()}, DType::kF32);
  for (int64_t i = 0; i < weights.num_elements(); ++i)
    weights.data<float>()[i] = input.labels.data<int32_t>()[i] == kMaskedLabel ? 0.0f : weight;
  return weights;
}

}  // namespace deepflow
