#pragma once

#include "core/option.h"
#include "parallel/collective_limits.h"
#include "parallel/context_parallel.h"

#include <string>
#include <vector>

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
  int dp = 0;              // ranks that split the batch; 0: all that the other axes leave
  int tp = 1;              // ranks that split matrices
  bool sp = true;          // with tp > 1: rows of the residual stream are split as well
  bool tp_overlap = true;  // with sp: messages behind products
  int cp = 1;              // ranks that split sequences
  ContextMethod cp_method = ContextMethod::kRing;
  int ep = 1;               // ranks of a pipeline stage that share the experts
  int etp = 1;              // ranks that split each expert's matrices
  bool ep_overlap = true;   // with dualpipev: exchanges of one pass behind the other of a woven pair
  int pp = 1;               // pipeline stages
  int vp = 0;               // model chunks a stage; 0: as few as can be
  std::string schedule;     // empty: by pp and vp
  std::vector<int> layers;  // of each chunk; empty: balanced
  int zero = 1;             // what is sharded: 1 optimizer state, 2 gradients too, 3 parameters too
  int shard = 0;            // data-parallel ranks among which ZeRO shards, replicas of each other; 0: all
  CommOptions comm;
};
void declare(OptionGroup& group, ParallelOptions& options);

}  // namespace deepflow
