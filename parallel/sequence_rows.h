#pragma once

#include "core/context.h"
#include "parallel/context_parallel.h"
#include "parallel/tensor_parallel.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// The ranks that have rows of the same sequences: each has the rows that `cp` gives it, of which `tp` deals it some.
struct SequenceRanks {
  Communicator* comm = nullptr;         // place = index on cp * size of tp + index on tp
  const ContextParallel* cp = nullptr;  // may be null, or one rank
  const TensorParallel* tp = nullptr;   // likewise
};
inline bool is_split(const SequenceRanks& ranks) { return ranks.comm && ranks.comm->size() > 1; }

// Rows of each whole sequence of the micro-batch.
int64_t whole_sequence(const RowInfo& rows, const SequenceRanks& ranks);
// For each dealt row of the rank at `place`: which it is of the whole micro-batch's rows, sequence after sequence.
std::vector<int64_t> whole_rows(const RowInfo& rows, const SequenceRanks& ranks, int place);

// Where each sequence begins among rows that whole_rows gave: batch + 1 entries.
std::vector<int64_t> sequence_begins(const std::vector<int64_t>& rows, int64_t batch, int64_t whole_sequence);

// own: [dealt rows, n] of every rank -> [rows of the whole micro-batch, n], sequence after sequence, on all of them.
// Collective over the ranks; waits.
Tensor gather_whole_rows(ForwardContext& context, const Tensor& own, const SequenceRanks& ranks,
                         const std::string& name);

}  // namespace deepflow
