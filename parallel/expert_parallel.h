#pragma once

#include "parallel/communicator.h"

namespace deepflow {

// How experts are dealt over a group of ranks (Lepikhin et al. 2020, GShard, section 3.2), and the matrices of each
// over `etp` neighbours of it. Place i of the group has part i % etp of experts [E o / n, E (o + 1) / n), o = i / etp,
// of n = size / etp owners. The ranks of the group bring different rows. Modules keep a pointer; null, or one rank, is
// no cut at all.
struct ExpertParallel {
  Communicator* comm = nullptr;  // the ranks of the axes ep and etp
  int etp = 1;
  bool overlap = true;  // who waits for an exchange gives the other pass its turn (core/turns.h), where there is one

  int size() const { return comm->size(); }
  int num_owners() const { return comm->size() / etp; }
};
inline bool is_split(const ExpertParallel* ep) { return ep && ep->comm && ep->comm->size() > 1; }

}  // namespace deepflow
