#pragma once

#include "core/device.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace deepflow {

struct MemoryStats {
  int64_t in_use = 0;      // bytes handed out now
  int64_t peak = 0;        // most bytes ever handed out at once
  int64_t reserved = 0;    // bytes taken from the system, never given back
  int64_t num_allocs = 0;  // calls to allocate
  int64_t num_maps = 0;    // of those, calls that had to ask the system
};

// Memory of one device. Thread-safe. Blocks are 64-byte aligned (256 on CUDA) and not initialised.
// On CUDA a block may be reused by later work of the stream it was allocated on (stream-ordered).
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual Device device() const = 0;
  virtual void* allocate(size_t bytes) = 0;  // throws StorageError when memory is exhausted
  virtual void free(void* block) = 0;
  virtual MemoryStats stats() const = 0;
};

// Host memory in segments that are mapped once (huge pages where the kernel grants them) and never returned, so that
// a training step in its steady state neither calls the system nor faults a page. Best fit with splitting; neighbours
// that are free are merged.
class CachingHostAllocator final : public Allocator {
 public:
  explicit CachingHostAllocator(size_t segment_bytes = size_t{64} << 20);
  ~CachingHostAllocator() override;
  CachingHostAllocator(const CachingHostAllocator&) = delete;
  CachingHostAllocator& operator=(const CachingHostAllocator&) = delete;

  Device device() const override { return {}; }
  void* allocate(size_t bytes) override;
  void free(void* block) override;
  MemoryStats stats() const override;

 private:
  struct Block {
    size_t bytes;
    bool free;
    bool first_of_segment;
  };
  using Blocks = std::map<char*, Block>;

  Blocks::iterator map_segment(size_t bytes);
  void split(Blocks::iterator block, size_t bytes);
  Blocks::iterator merge_with_neighbours(Blocks::iterator block);

  const size_t segment_bytes_;
  mutable std::mutex mutex_;
  Blocks blocks_;
  std::set<std::pair<size_t, char*>> free_blocks_;
  std::vector<std::pair<char*, size_t>> segments_;
  MemoryStats stats_;
};

}  // namespace deepflow
