#pragma once

#include "parallel/communicator.h"

#include <cstdint>
#include <vector>

namespace deepflow {

// How the matrices of a model are cut over a group of ranks (Shoeybi et al. 2019, Megatron-LM), and with `sequence` the
// rows of the residual stream between them (Korthikanti et al. 2022, section 4.2). Modules keep a pointer; null, or one
// rank, is no cut at all.
struct TensorParallel {
  Communicator* comm = nullptr;  // the ranks of the tp axis
  bool sequence = false;         // rank r of n holds rows [M r / n, M (r + 1) / n) of the residual stream
  bool overlap = true;           // products go chunk by chunk beside a ring of messages; only with `sequence`

  int rank() const { return comm->rank(); }
  int size() const { return comm->size(); }
};
inline bool is_split(const TensorParallel* tp) { return tp && tp->comm && tp->comm->size() > 1; }

// Rows of M that each rank of n holds, dealt as evenly as can be; some may hold none.
std::vector<int64_t> dealt_rows(int64_t rows, int num_ranks);

}  // namespace deepflow
