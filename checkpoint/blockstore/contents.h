#pragma once

#include "checkpoint/blockstore/stored_checkpoint.h"
#include "checkpoint/codecs/codec.h"

#include <cstdint>
#include <map>
#include <string>

namespace deepflow {

// What values take on the disk, as manifest and indices tell: no block is read.
struct StoredSize {
  int64_t raw = 0;     // bytes of the values
  int64_t own = 0;     // stored bytes in the checkpoint's own data files
  int64_t shared = 0;  // stored bytes of earlier checkpoints that are referred to, bases of differences among them
  std::map<CodecId, int64_t> blocks;
  double ratio() const { return raw > 0 ? static_cast<double>(own + shared) / static_cast<double>(raw) : 1; }
  StoredSize& operator+=(const StoredSize& other);
};
StoredSize stored_size(const StoredCheckpoint& checkpoint, const StoredTensor& tensor);  // throws DataError
StoredSize stored_size(const StoredCheckpoint& checkpoint);                              // of all tensors

// "planes 61, raw 3": blocks of each codec, most first.
std::string codecs_text(const StoredSize& size);

// What kind of state a tensor is: "adamw.m" of "adamw.m/layers.0...", and all of a name without a slash.
std::string state_kind(const std::string& tensor);

}  // namespace deepflow
