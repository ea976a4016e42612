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

void check_context_parallel(const ContextParallel& cp, int64_t heads, int64_t kv_heads, int64_t sequence) {
  if (!is_split(&cp)) return;
  const int64_t n = cp.size();
  context_spans(sequence, cp.method, cp.rank(), cp.size());
  if (cp.method != ContextMethod::kUlysses) return;
  if (heads % n != 0)
    throw ConfigError(
        "parallel.cp {}: Ulysses deals whole heads, and {} heads on a rank do not divide by {}; use a parallel.cp that "
        "divides {}, or the ring",
        n, heads, n, heads);
  if (kv_heads % n != 0 && n % kv_heads != 0)
    throw ConfigError(
        "parallel.cp {}: Ulysses deals whole key heads, and of {} on a rank and {} ranks neither divides the other; "
        "use another parallel.cp, or the ring",
        n, kv_heads, n);
}

}  // namespace deepflow
