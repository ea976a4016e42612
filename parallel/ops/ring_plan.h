#pragma once

#include "core/context.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// Queries of one span of rows against the keys of one span, at one step of ring attention.
struct RingPair {
  int step;                        // the keys have come from rank (rank - step) mod num_ranks
  RowSpan query, key;              // rows of the whole sequence: the same span, or all keys before all queries
  int64_t query_row, key_row;      // where the spans begin among a sequence's rows, here and on the keys' rank
  std::vector<int64_t> sequences;  // those where some query may see some key; never none
};

// What `rank` computes, in the order in which it does: step by step, pairs of the same span first. Pairs in which no
// query sees a key (it stands before the keys, in a later document, beyond its window) are left out. `rows` are the
// rank's own, cut as context_spans does for a ring. Local: every rank plans for itself.
std::vector<RingPair> ring_plan(const RowInfo& rows, int64_t window, int rank, int num_ranks);

}  // namespace deepflow
