#include "parallel/context_parallel.h"

#include "core/error.h"

#include <fmt/ranges.h>

namespace deepflow {

std::vector<RowSpan> context_spans(int64_t sequence, ContextMethod method, int rank, int num_ranks) {
  const int64_t pieces = method == ContextMethod::kRing ? 2 * num_ranks : num_ranks;
  if (sequence % pieces != 0) {
    const int64_t below = sequence / pieces * pieces, above = below + pieces;
    throw ConfigError(
        "data.sequence: {} tokens do not divide into the {} equal pieces that parallel.cp {}{} needs; use {}{}",
        sequence, pieces, num_ranks, method == ContextMethod::kRing ? " (ring: 2 a rank)" : "",
        below > 0 ? fmt::format("{} or ", below) : "", above);
  }
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
  const auto heads_fit = [&](int64_t ranks) { return heads % ranks == 0; };
  const auto key_heads_fit = [&](int64_t ranks) { return kv_heads % ranks == 0 || ranks % kv_heads == 0; };
  if (heads_fit(n) && key_heads_fit(n)) return;
  std::vector<int64_t> possible;
  for (int64_t ranks = 1; ranks <= heads; ++ranks)
    if (heads_fit(ranks) && key_heads_fit(ranks)) possible.push_back(ranks);
  const std::string why =
      heads_fit(n)
          ? fmt::format("neither divides the {} key heads of a rank (model.kv_heads over tp) nor is a multiple of them",
                        kv_heads)
          : fmt::format("does not divide the {} head{} of a rank (model.heads over tp)", heads, heads == 1 ? "" : "s");
  throw ConfigError("parallel: cp {} with cp_method ulysses {}; cp can be {} here, or take cp_method: ring", n, why,
                    fmt::join(possible, ", "));
}

}  // namespace deepflow
