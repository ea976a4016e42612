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

// Throws ConfigError when sequences of `sequence` rows, or the heads that are left on a rank after tensor parallelism,
// cannot be cut over the ranks. Heads matter to Ulysses only: every rank needs as many of them, and the key heads
// divide by the ranks or the ranks by the key heads.
void check_context_parallel(const ContextParallel& cp, int64_t heads, int64_t kv_heads, int64_t sequence);

}  // namespace deepflow
