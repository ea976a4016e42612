#pragma once

#include "checkpoint/blockstore/save_plan.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/blockstore/tensor_reader.h"
#include "core/state.h"
#include "core/thread_pool.h"

namespace deepflow {

// Throws ConfigError unless the checkpoint has the very tensors of the plan, with their dtypes and shapes: one line
// that lists what is missing, unknown and of another shape.
void check_same_tensors(const StoredCheckpoint& checkpoint, const SavePlan& plan);

// Fills the state of a rank from a checkpoint that any layout has written. plan: of this run. Sums: every stored value
// of an element goes to one of this run's contributors that have the element, in turns, so that their total is
// conserved; with the same contributors each gets its own. Returns the bytes read. Throws DataError and StorageError;
// the state is then partly overwritten. Calls state_written at the end.
int64_t load_state(StateOwner& owner, const StoredCheckpoint& checkpoint, const SavePlan& plan, const ThreadPool* pool);

}  // namespace deepflow
