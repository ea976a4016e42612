#pragma once

#include "core/thread_pool.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

struct VerifyReport {
  std::vector<std::string> damages;  // one line each: file, byte, tensor, elements
  int64_t blocks = 0;                // that were read and compared with their digests
  int64_t bytes_read = 0;
  bool is_whole() const { return damages.empty(); }
};

// Reads all of a checkpoint: commit record, manifest, every index, every block, also those of earlier checkpoints that
// it refers to; data files have no byte that is in no block; every element of every tensor is stored once. Damage is
// reported, not thrown; at most `most_damages` lines, the same with any number of threads. Throws StorageError where
// something cannot be read. pool: reads blocks; null: this thread alone.
VerifyReport verify_checkpoint(const std::string& path, size_t most_damages = 100, const ThreadPool* pool = nullptr);

}  // namespace deepflow
