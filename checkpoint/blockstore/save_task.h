#pragma once

#include "checkpoint/blockstore/block_writer.h"
#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/save_plan.h"
#include "checkpoint/checkpoint_options.h"
#include "parallel/communicator.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// What a rank keeps from one checkpoint of a run for the next: where its slices' blocks lie.
struct EarlierSlices {
  struct Slice {
    EarlierBlocks blocks;
    bool differences = false;  // they paid when they were tried last
    int64_t try_at = 0;        // the save in which they are tried again
  };
  std::map<size_t, Slice> of_slice;  // by number in the plan
  int64_t saves = 0;
};

// Of the whole job; the same on every rank but for seconds.
struct SaveReport {
  int64_t step = 0;
  std::string path;
  std::string error;    // "": committed
  std::string warning;  // committed, but older checkpoints could not be pruned
  WriteStats stats;
  std::string codecs;  // "planes 61 tensors, zstd 3", by rank 0's slices
  std::vector<std::string> pruned;
  double waited = 0;    // s, for the save before: the disk does not keep up
  double snapshot = 0;  // s, in which training stood still for the copy
  double writing = 0;   // s, from the copy to the commit
};

// A copy of what a rank writes, in the order of the plan's slices.
struct Snapshot {
  int64_t step = 0;
  std::string run;  // JSON, of rank 0
  std::vector<size_t> slices;
  std::vector<std::span<const char>> values;
};

// Writes one checkpoint. Collective over `comm`, on a thread of its own; nothing is thrown: what goes wrong on any rank
// is in the report, and the folder then holds what it held before.
SaveReport write_checkpoint(Communicator& comm, const CheckpointOptions& options, const SavePlan& plan,
                            const Snapshot& snapshot, EarlierSlices& earlier);

}  // namespace deepflow
