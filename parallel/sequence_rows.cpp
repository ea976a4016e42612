#include "parallel/sequence_rows.h"

#include "core/error.h"

#include <cstring>

namespace deepflow {
namespace {

int tp_size(const SequenceRanks& ranks) { return is_split(ranks.tp) ? ranks.tp->size() : 1; }
int cp_size(const SequenceRanks& ranks) { return is_split(ranks.cp) ? ranks.cp->size() : 1; }

}  // namespace

int64_t whole_sequence(const RowInfo& rows, const SequenceRanks& ranks) { return rows.sequence * cp_size(ranks); }

std::vector<int64_t> whole_rows(const RowInfo& rows, const SequenceRanks& ranks, int place) {
  const int tp = tp_size(ranks), cp = cp_size(ranks);
  const int64_t whole = whole_sequence(rows, ranks);
  const std::vector<RowSpan> spans =
      cp == 1 ? std::vector<RowSpan>{{0, whole}} : context_spans(whole, ranks.cp->method, place / tp, cp);
  std::vector<int64_t> of_place;
  for (int64_t b = 0; b < rows.batch; ++b)
    for (const RowSpan& span : spans)
      for (int64_t t = span.first; t < span.first + span.count; ++t) of_place.push_back(b * whole + t);
  const std::vector<int64_t> counts = dealt_rows(rows.rows(), tp);
  const auto t = static_cast<size_t>(place % tp);
  int64_t first = 0;
  for (size_t i = 0; i < t; ++i) first += counts[i];
  return {of_place.begin() + first, of_place.begin() + first + counts[t]};
}

std::vector<int64_t> sequence_begins(const std::vector<int64_t>& rows, int64_t batch, int64_t whole_sequence) {
  std::vector<int64_t> begins(static_cast<size_t>(batch) + 1);
  for (const int64_t row : rows) ++begins[static_cast<size_t>(row / whole_sequence) + 1];
  for (size_t b = 1; b < begins.size(); ++b) begins[b] += begins[b - 1];
  return begins;
}

Tensor gather_whole_rows(ForwardContext& context, const Tensor& own, const SequenceRanks& ranks,
                         const std::string& name) {
  if (!is_split(ranks)) return own;
  DF_ASSERT(own.is_contiguous(), "{}", name);
  const int64_t cols = own.cols();
  std::vector<int64_t> counts;
  std::vector<std::vector<int64_t>> of_place;
  for (int place = 0; place < ranks.comm->size(); ++place) {
    of_place.push_back(whole_rows(context.rows, ranks, place));
    counts.push_back(static_cast<int64_t>(of_place.back().size()) * cols);
  }
  const Shape shape{context.rows.batch * whole_sequence(context.rows, ranks), cols};
  const Tensor by_place = context.empty(shape, own.dtype());
  Tensor whole = context.empty(shape, own.dtype());
  ranks.comm->all_gather(own, by_place, counts, name)->wait(context.stream);
  const size_t row_bytes = static_cast<size_t>(cols) * size_of(own.dtype());
  const char* from = static_cast<const char*>(by_place.raw());
  for (const std::vector<int64_t>& rows : of_place)
    for (const int64_t row : rows) {
      std::memcpy(static_cast<char*>(whole.raw()) + static_cast<size_t>(row) * row_bytes, from, row_bytes);
      from += row_bytes;
    }
  return whole;
}

}  // namespace deepflow
