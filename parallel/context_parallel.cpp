#include "parallel/context_parallel.h"

#include "core/error.h"

namespace deepflow {

std::vector<RowSpan> context_spans(int64_t sequence, ContextMethod method, int rank, int num_ranks) {
  const int64_t pieces = method == ContextMethod::kRing ? 2 * num_ranks : num_ranks;
  if (sequence % pieces != 0)
    throw ConfigError(
        "data.sequence: {} rows do not divide into the {} equal pieces that parallel.cp {} needs; use {} or {}",
        sequence, pieces, num_ranks, sequence / pieces * pieces, (sequence / pieces + 1) * pieces);
  const int64_t piece = sequence / pieces;
  if (method == ContextMethod::kUlysses) return {{rank * piece, piece}};
  const RowSpan low{rank * piece, piece}, high{(pieces - 1 - rank) * piece, piece};
  if (rank == num_ranks - 1) return {{low.first, 2 * piece}};
  return {low, high};
}

}  // namespace deepflow
