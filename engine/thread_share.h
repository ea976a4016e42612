#pragma once

#include "parallel/communicator.h"

#include <string>
#include <vector>

namespace deepflow {

// The CPUs that a rank may run on.
struct CpuSet {
  std::string host;
  std::vector<int> cpus;
};

// Compute threads for member `rank`: its CPUs, each divided by the number of ranks of the host that may run on it too.
// Ranks that a launcher has bound keep all of theirs; ranks that share a host unbound share its CPUs.
int fair_threads(const std::vector<CpuSet>& ranks, int rank);

// The CPUs for `threads` threads of member `rank`: its own, or its part of those that it shares with ranks of the same
// set, in the order of ranks. Empty where the threads do not fill the CPUs exactly: then it is better not to pin them.
std::vector<int> fair_cpus(const std::vector<CpuSet>& ranks, int rank, int threads);

struct ThreadShare {
  int threads = 1;
  std::vector<int> cpus;  // to pin them to; may be empty
};
// Both from what the ranks themselves see. Collective.
ThreadShare share_threads(Communicator& all);

}  // namespace deepflow
