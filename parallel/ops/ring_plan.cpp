#include "parallel/ops/ring_plan.h"

#include "core/error.h"
#include "parallel/context_parallel.h"

#include <algorithm>
#include <utility>

namespace deepflow {
namespace {

// First row of every whole sequence that some query of the span sees.
std::vector<int64_t> first_rows_seen(const RowInfo& rows, int64_t window, const RowSpan& span, int64_t local_row) {
  std::vector<int64_t> seen;
  for (int64_t sequence = 0; sequence < rows.batch; ++sequence) {
    int64_t lowest = span.first + span.count - 1;
    for (int64_t r = 0; r < span.count; ++r) {
      const int64_t local = sequence * rows.sequence + local_row + r;
      int64_t first = rows.document_start.defined() ? rows.document_start.data<int32_t>()[local] : 0;
      DF_ASSERT(0 <= first && first <= span.first + r, "row {} starts at {}", span.first + r, first);
      if (window > 0) first = std::max(first, span.first + r - window + 1);
      lowest = std::min(lowest, first);
    }
    seen.push_back(lowest);
  }
  return seen;
}

struct QuerySpan {
  RowSpan span;
  int64_t local_row;
  std::vector<int64_t> first_seen;  // by sequence
};

std::vector<QuerySpan> query_spans(const RowInfo& rows, int64_t window) {
  std::vector<QuerySpan> queries;
  int64_t local_row = 0;
  for (const RowSpan& span : rows.spans) {
    queries.push_back({span, local_row, first_rows_seen(rows, window, span, local_row)});
    local_row += span.count;
  }
  DF_ASSERT(local_row == rows.sequence, "spans of {} rows, {} rows a sequence", local_row, rows.sequence);
  return queries;
}

void plan_step(const std::vector<QuerySpan>& queries, const std::vector<RowSpan>& keys, int step,
               std::vector<RingPair>& plan) {
  for (const QuerySpan& query : queries) {
    int64_t key_row = 0;
    for (const RowSpan& key : keys) {
      RingPair pair{step, query.span, key, query.local_row, key_row, {}};
      key_row += key.count;
      if (key.first > query.span.first) continue;
      for (size_t i = 0; i < query.first_seen.size(); ++i)
        if (query.first_seen[i] < key.first + key.count) pair.sequences.push_back(static_cast<int64_t>(i));
      if (!pair.sequences.empty()) plan.push_back(std::move(pair));
    }
  }
}

}  // namespace

std::vector<RingPair> ring_plan(const RowInfo& rows, int64_t window, int rank, int num_ranks) {
  const std::vector<QuerySpan> queries = query_spans(rows, window);
  std::vector<RingPair> plan;
  for (int step = 0; step < num_ranks; ++step) {
    const int owner = (rank - step + num_ranks) % num_ranks;
    plan_step(queries, context_spans(rows.sequence * num_ranks, ContextMethod::kRing, owner, num_ranks), step, plan);
  }
  std::stable_partition(plan.begin(), plan.end(), [](const RingPair& p) { return p.query.first == p.key.first; });
  return plan;
}

}  // namespace deepflow
