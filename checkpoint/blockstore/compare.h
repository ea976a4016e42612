#pragma once

#include "checkpoint/blockstore/stored_checkpoint.h"
#include "core/thread_pool.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// Elements are different where their bytes are; of sums the totals are compared.
struct TensorDifference {
  std::string name;
  int64_t elements = 0, different = 0;
  double absolute = 0;  // largest |a - b|; infinite where one of the two is no number
  double relative = 0;  // largest |a - b| / max(|a|, |b|)
};

struct Comparison {
  std::vector<std::string> only_in_a, only_in_b;
  std::vector<std::string> misshapen;  // "NAME (f32 [4, 8], bf16 [4, 8])"
  std::vector<TensorDifference> different;
  int64_t same = 0;        // tensors
  int64_t elements = 0;    // that were compared
  int64_t bytes_read = 0;  // of both
  bool is_same() const { return only_in_a.empty() && only_in_b.empty() && misshapen.empty() && different.empty(); }
};

// Values of any two checkpoints, of whatever layouts, a few MB at a time. kind: of this kind of state alone
// ("parameters"); "": of all. Throws DataError and StorageError.
Comparison compare_checkpoints(const StoredCheckpoint& a, const StoredCheckpoint& b, const ThreadPool& pool,
                               const std::string& kind = "");

}  // namespace deepflow
