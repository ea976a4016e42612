#pragma once

#include "core/context.h"
#include "parallel/communicator.h"

#include <cstdint>
#include <vector>

namespace deepflow {

enum class ContextMethod : uint8_t {
  kRing,     // keys and values travel round the ranks (Liu et al. 2023, Ring Attention)
  kUlysses,  // all-to-all: every rank sees whole sequences of some heads (Jacobs et al. 2023, DeepSpeed-Ulysses)
};

// How the rows of every sequence are cut over a group of ranks. Modules keep a pointer; null, or one rank: not at all.
struct ContextParallel {
  Communicator* comm = nullptr;  // the ranks of the cp axis
  ContextMethod method = ContextMethod::kRing;

  int rank() const { return comm->rank(); }
  int size() const { return comm->size(); }
};
inline bool is_split(const ContextParallel* cp) { return cp && cp->comm && cp->comm->size() > 1; }

// The rows of a sequence that `rank` of `num_ranks` holds. Ring: two of 2 num_ranks equal pieces, one from each end
// (zig-zag), so that every rank has the same causal work. Ulysses: one of num_ranks equal pieces. Throws ConfigError
// when the sequence does not divide.
std::vector<RowSpan> context_spans(int64_t sequence, ContextMethod method, int rank, int num_ranks);

}  // namespace deepflow
