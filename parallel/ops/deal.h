#pragma once

#include "parallel/tensor_parallel.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// `total` things (rows, tokens of a vocabulary) dealt over ranks as dealt_rows does: rank r has [first(r), first(r +
// 1)).
struct Deal {
  int64_t total;
  int num_ranks;

  int64_t first(int rank) const { return total * rank / num_ranks; }
  int64_t count(int rank) const { return first(rank + 1) - first(rank); }
  int64_t most() const { return (total + num_ranks - 1) / num_ranks; }
  int owner(int64_t item) const { return static_cast<int>((num_ranks * (item + 1) - 1) / total); }
  Tensor part(const Tensor& rows, int rank) const { return rows.row_range(first(rank), first(rank + 1)); }
  // Of every rank's rows, as collectives count.
  std::vector<int64_t> elements(int64_t cols) const {
    std::vector<int64_t> counts = dealt_rows(total, num_ranks);
    for (int64_t& n : counts) n *= cols;
    return counts;
  }
};

}  // namespace deepflow
