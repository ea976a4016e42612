#include "parallel/ops/ring_plan.h"

#include "core/error.h"
#include "parallel/context_parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace deepflow {
namespace {

// Whole sequences of `sequence` rows, cut over ranks. document_start[b][t], or empty.
struct Cut {
  int64_t sequence;
  int num_ranks;
  int64_t window = 0;
  std::vector<std::vector<int32_t>> document_start = {};
  int64_t batch = 1;

  std::vector<RingPair> plan(int rank) const {
    RowInfo rows;
    rows.batch = document_start.empty() ? batch : static_cast<int64_t>(document_start.size());
    rows.sequence = sequence / num_ranks;
    rows.spans = context_spans(sequence, ContextMethod::kRing, rank, num_ranks);
    std::vector<int32_t> starts;
    for (const auto& of_sequence : document_start)
      for (const RowSpan& span : rows.spans)
        starts.insert(starts.end(), of_sequence.begin() + span.first, of_sequence.begin() + span.first + span.count);
    if (!starts.empty())
      rows.document_start = Tensor::wrap(starts.data(), {static_cast<int64_t>(starts.size())}, DType::kI32);
    return ring_plan(rows, window, rank, num_ranks);
  }
  bool sees(int64_t b, int64_t query, int64_t key) const {
    const int64_t start =
        document_start.empty() ? 0 : document_start[static_cast<size_t>(b)][static_cast<size_t>(query)];
    return key <= query && key >= start && (window == 0 || key > query - window);
  }
  bool any_seen(int64_t b, const RowSpan& query, const RowSpan& key) const {
    for (int64_t q = query.first; q < query.first + query.count; ++q)
      for (int64_t k = key.first; k < key.first + key.count; ++k)
        if (sees(b, q, k)) return true;
    return false;
  }
};

// Every pair of spans with work is planned once, at the step at which its keys are here, and no other pair is.
void expect_exact(const Cut& cut) {
  for (int rank = 0; rank < cut.num_ranks; ++rank) {
    std::set<std::tuple<int, int64_t, int64_t, int64_t>> planned, expected;
    for (const RingPair& pair : cut.plan(rank))
      for (const int64_t b : pair.sequences)
        EXPECT_TRUE(planned.insert({pair.step, b, pair.query.first, pair.key.first}).second);
    const int64_t batch = cut.document_start.empty() ? cut.batch : static_cast<int64_t>(cut.document_start.size());
    for (int owner = 0; owner < cut.num_ranks; ++owner)
      for (const RowSpan& query : context_spans(cut.sequence, ContextMethod::kRing, rank, cut.num_ranks))
        for (const RowSpan& key : context_spans(cut.sequence, ContextMethod::kRing, owner, cut.num_ranks))
          for (int64_t b = 0; b < batch; ++b)
            if (cut.any_seen(b, query, key))
              expected.insert({(rank - owner + cut.num_ranks) % cut.num_ranks, b, query.first, key.first});
    EXPECT_EQ(planned, expected) << "rank " << rank << " of " << cut.num_ranks;
  }
}

std::vector<int32_t> starts_at(int64_t sequence, const std::set<int32_t>& bounds) {
  std::vector<int32_t> starts;
  int32_t start = 0;
  for (int32_t t = 0; t < sequence; ++t) {
    if (bounds.count(t)) start = t;
    starts.push_back(start);
  }
  return starts;
}

TEST(RingPlan, HoldsExactlyThePairsWithWork) {
  for (const int ranks : {1, 2, 4})
    for (const int64_t window : {0, 1, 5, 9, 16, 40}) {
      expect_exact({48, ranks, window});
      expect_exact(
          {48, ranks, window, {starts_at(48, {5, 6, 12, 24, 29}), starts_at(48, {}), starts_at(48, {36, 47})}});
    }
}

TEST(RingPlan, LeavesOutDocumentsThatEndAtTheEdgeOfASpan) {
  // Two ranks: spans of 8 rows, rank 0 holds the first and the last. Row 24 begins a document.
  const Cut cut{32, 2, 0, {starts_at(32, {24})}};
  const auto plan = cut.plan(0);
  ASSERT_EQ(plan.size(), 2u);  // each span with itself
  for (const RingPair& pair : plan) EXPECT_EQ(pair.step, 0);
  EXPECT_EQ((Cut{32, 2, 0, {starts_at(32, {23})}}).plan(0).size(), 3u);  // one row of rank 1 is seen
}

TEST(RingPlan, LeavesOutWhatIsBeyondTheWindow) {
  // Four ranks, spans of 100 rows: a window of 101 reaches the neighbouring span and not the one before it.
  const Cut cut{800, 4, 101};
  for (int rank = 0; rank < 4; ++rank)
    for (const RingPair& pair : cut.plan(rank)) EXPECT_GE(pair.key.first + pair.key.count, pair.query.first);
  EXPECT_EQ((Cut{800, 4, 1}).plan(1).size(), 2u);
}

TEST(RingPlan, BeginsWithTheSpansThemselves) {
  for (int rank = 0; rank < 4; ++rank) {
    const auto plan = (Cut{64, 4}).plan(rank);
    const size_t spans = rank == 3 ? 1 : 2;
    for (size_t i = 0; i < plan.size(); ++i) EXPECT_EQ(plan[i].query.first == plan[i].key.first, i < spans);
    EXPECT_TRUE(std::is_sorted(plan.begin(), plan.end(), [](auto& a, auto& b) { return a.step < b.step; }));
  }
}

TEST(RingPlan, EveryRankHasTheSameCausalWorkAtEveryStep) {
  for (const int ranks : {2, 4, 8}) {
    std::vector<std::vector<double>> work;  // [rank][step]: unmasked entries
    for (int rank = 0; rank < ranks; ++rank) {
      auto& steps = work.emplace_back(static_cast<size_t>(ranks));
      for (const RingPair& pair : (Cut{4096, ranks}).plan(rank)) {
        const double n = static_cast<double>(pair.query.count), m = static_cast<double>(pair.key.count);
        steps[static_cast<size_t>(pair.step)] += pair.query.first == pair.key.first ? n * (n + 1) / 2 : n * m;
      }
    }
    for (size_t step = 0; step < static_cast<size_t>(ranks); ++step) {
      double least = 1e30, most = 0;
      for (const auto& steps : work) {
        least = std::min(least, steps[step]);
        most = std::max(most, steps[step]);
      }
      EXPECT_LT(most, 1.1 * least) << "step " << step << " of " << ranks;
    }
  }
}

}  // namespace
}  // namespace deepflow
