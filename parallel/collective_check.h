#pragma once

#include "parallel/collective_plan.h"
#include "parallel/flight_recorder.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// What a member says about a call, to be compared with what the others say (option check_collectives).
struct CallHeader {
  CommKind kind;
  DType dtype;
  ReduceOp op;
  uint8_t unused;
  int32_t root;     // broadcast
  int64_t bytes;    // of the whole tensor; to that one peer for all_to_all and batch
  uint64_t counts;  // hash of the counts, 0 without
  std::array<char, 104> name;
};
CallHeader call_header(CommKind kind, std::string_view name, DType dtype, int64_t bytes);
uint64_t hash_counts(Counts counts);

// One header that crosses: `mine` is sent, or is what the received one must equal.
struct HeaderMessage {
  int peer;
  bool send;
  CallHeader mine;
};

// The plan, preceded by an exchange of headers that fails with CommError when they differ. `world_ranks`
// names the members; `rank` is this one's.
Plan plan_checked(Plan plan, std::vector<HeaderMessage> headers, int rank, std::vector<int> world_ranks);

}  // namespace deepflow
