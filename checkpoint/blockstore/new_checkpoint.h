#pragma once

#include "checkpoint/blockstore/block_writer.h"
#include "checkpoint/blockstore/save_plan.h"
#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/blockstore/tensor_reader.h"
#include "core/thread_pool.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// Checkpoints that one process writes, from another one or from the tensors of a model file. They refer to no other
// folder.

// What is to be in one. The values are asked for a few MB at a time, tensor by tensor in the order of their names.
struct CheckpointContent {
  int64_t step = 0;
  std::string run = "{}";          // JSON object of the manifest
  std::vector<HeldEntry> tensors;  // whole: one box; of sums one entry for each contributor
  std::function<void(const HeldEntry&, const Box&, std::span<char>)> read;
};

struct NewCheckpointOptions {
  int writers = 1;  // data files
  // Of a tensor; the values are its first few MB. Null: lossless, as these values say.
  std::function<CodecId(const StoredTensor&, std::span<const char>)> codec;
  // Before it is committed; what this throws leaves nothing behind. May be null.
  std::function<void(const StoredCheckpoint&)> check;
};

struct NewCheckpoint {
  std::string path;  // DIR/step-NNNNNNNN
  WriteStats stats;
};

// dir: is made, and must hold no checkpoints. Throws ConfigError, StorageError, and what `read` and `check` throw;
// nothing is left behind then.
NewCheckpoint write_new_checkpoint(const std::string& dir, const CheckpointContent& content,
                                   const NewCheckpointOptions& options);

// A checkpoint's content, read from it as it is asked for; both outlive what is returned. Of `kind` alone
// ("parameters"); "": all.
CheckpointContent content_of(const StoredCheckpoint& checkpoint, TensorReader& reader, const std::string& kind = "");

}  // namespace deepflow
