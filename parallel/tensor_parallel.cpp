#include "parallel/tensor_parallel.h"

namespace deepflow {

std::vector<int64_t> dealt_rows(int64_t rows, int num_ranks) {
  std::vector<int64_t> counts;
  for (int r = 0; r < num_ranks; ++r) counts.push_back(rows * (r + 1) / num_ranks - rows * r / num_ranks);
  return counts;
}

}  // namespace deepflow
