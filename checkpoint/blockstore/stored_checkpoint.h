#pragma once

#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/blockstore/manifest.h"

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace deepflow {

// A committed checkpoint open for reading: DIR/step-NNNNNNNN. Throws DataError for what is missing or damaged, one line
// that names the file, and StorageError. Many threads may use one.
class StoredCheckpoint {
 public:
  explicit StoredCheckpoint(const std::string& path);
  // With a manifest that somebody else has read and compared with the commit record.
  StoredCheckpoint(const std::string& path, const std::string& manifest_text);

  const std::string& path() const { return path_; }
  const std::string& dir() const { return dir_; }    // that holds the checkpoints of the run
  const std::string& name() const { return name_; }  // "step-00000200"
  const Manifest& manifest() const { return manifest_; }

  // Of one writer, read when it is first asked for, compared with the manifest's digest.
  const BlockIndex& index(int file) const;
  BlockSource data_of(int file) const { return {name_, data_file_name(file)}; }

  // The text of a manifest that has the length and the digest of its commit record.
  static std::string read_manifest(const std::string& path);

 private:
  std::string path_, dir_, name_;
  Manifest manifest_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<BlockIndex>> indices_;
};

// All of a file of at most `most` bytes. Throws DataError where it is missing or longer, StorageError.
std::string read_whole_file(const std::string& path, uint64_t most);

}  // namespace deepflow
