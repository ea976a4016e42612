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

// The same from what the ranks themselves see. Collective.
int fair_threads(Communicator& all);

}  // namespace deepflow
