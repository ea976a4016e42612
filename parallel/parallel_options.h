#pragma once

#include "core/option.h"
#include "parallel/collective_limits.h"

#include <string>

namespace deepflow {

// How ranks talk to each other.
struct CommOptions {
  double timeout = 600;            // seconds without progress after which a collective counts as hung
  bool check_collectives = false;  // compares every call with those of the other ranks
  std::string flight_dir;          // where a failing rank leaves its last collectives; empty: nowhere
  CollectiveLimits limits;         // no keys: tests lower them
};

// The layout, section `parallel` of a recipe.
struct ParallelOptions {
  int dp = 0;    // ranks that split the batch; 0: all that the other axes leave
  int zero = 1;  // 0: every rank keeps all optimizer state; 1: each keeps its shard
  CommOptions comm;
};
void declare(OptionGroup& group, ParallelOptions& options);

}  // namespace deepflow
