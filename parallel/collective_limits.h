#pragma once

#include <cstdint>

namespace deepflow {

// How a collective is cut up. All members use the same values; the result does not depend on them.
struct CollectiveLimits {
  int64_t piece_bytes = int64_t{512} << 10;     // one member reduces this much of one piece
  int64_t staging_bytes = int64_t{16} << 20;    // most that a piece may hold of what others sent
  int64_t one_shot_bytes = int64_t{256} << 10;  // tensors up to this / size: everybody sends everything to everybody
  int64_t message_bytes = int64_t{4} << 20;     // longer messages are sent in parts (MPI counts are ints)
};

}  // namespace deepflow
