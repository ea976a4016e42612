#pragma once

#include "parallel/communicator.h"

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

enum class CommKind : uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kBatch,
  kBroadcast,
  kBarrier,
  kSplit
};
const char* name_of(CommKind kind);  // "all_reduce", ...

// What one communicator did last, so that a hang can be told. Thread-safe.
class FlightRecorder {
 public:
  enum class State : uint8_t { kQueued, kBegun, kDone, kFailed };
  struct Entry {
    int64_t ticket = -1;  // place among all operations of this communicator, from 0
    int64_t number = 0;   // place among its collectives (the same on every member), or among its batches
    CommKind kind = CommKind::kBarrier;
    State state = State::kQueued;
    std::string name;
    int64_t bytes = 0;
    double queued = 0, begun = 0, ended = 0;  // seconds of the steady clock
  };

  FlightRecorder(std::string communicator, size_t capacity = 64);

  // An operation joins the queue. Numbers it and returns its ticket.
  Entry queued(CommKind kind, std::string_view name, int64_t bytes);
  void mark(int64_t ticket, State state);

  std::vector<Entry> entries() const;  // oldest first
  // One line an operation: "`dp` #12 all_reduce `layers.3 gradients` 4194304 bytes, begun, queued 0.120 s ago".
  std::string report() const;
  static double now();

 private:
  const std::string communicator_;
  mutable std::mutex mutex_;
  std::vector<Entry> ring_;
  int64_t next_ticket_ = 0, next_collective_ = 0, next_batch_ = 0;
};

}  // namespace deepflow
