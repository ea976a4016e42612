#include "core/memory.h"

#include "core/error.h"

#include <sys/mman.h>

#include <algorithm>

namespace deepflow {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

CachingHostAllocator::CachingHostAllocator(size_t segment_bytes) : segment_bytes_(round_up(segment_bytes, kHugePage)) {}

CachingHostAllocator::~CachingHostAllocator() {
  for (auto& segment : segments_) munmap(segment.first, segment.second);
}

void* CachingHostAllocator::allocate(size_t bytes) {
  bytes = round_up(std::max<size_t>(bytes, 1), kAlignment);
  const std::lock_guard lock(mutex_);
  ++stats_.num_allocs;
  const auto fit = free_blocks_.lower_bound({bytes, nullptr});
  auto block = fit == free_blocks_.end() ? map_segment(bytes) : blocks_.find(fit->second);
  free_blocks_.erase({block->second.bytes, block->first});
  block->second.free = false;
  split(block, bytes);
  stats_.in_use += static_cast<int64_t>(block->second.bytes);
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block->first;
}

void CachingHostAllocator::free(void* pointer) {
  if (!pointer) return;
  const std::lock_guard lock(mutex_);
  auto block = blocks_.find(static_cast<char*>(pointer));
  DF_ASSERT(block != blocks_.end() && !block->second.free, "free of a block that is not in use");
  stats_.in_use -= static_cast<int64_t>(block->second.bytes);
  block->second.free = true;
  block = merge_with_neighbours(block);
  free_blocks_.insert({block->second.bytes, block->first});
}

MemoryStats CachingHostAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

CachingHostAllocator::Blocks::iterator CachingHostAllocator::map_segment(size_t bytes) {
  const size_t size = round_up(std::max(bytes, segment_bytes_), kHugePage);
  // One huge page more than needed, so that the part in use starts on a huge-page boundary.
  void* raw =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED)
    throw StorageError("out of memory: cannot map {} MiB more ({} MiB in use); use a smaller micro-batch or more ranks",
                       size >> 20, stats_.in_use >> 20);
  segments_.emplace_back(static_cast<char*>(raw), size + kHugePage);
  char* base = reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(raw), kHugePage));
  madvise(base, size, MADV_HUGEPAGE);
  stats_.reserved += static_cast<int64_t>(size);
  ++stats_.num_maps;
  free_blocks_.insert({size, base});
  return blocks_.insert_or_assign(base, Block{size, true, true}).first;
}

void CachingHostAllocator::split(Blocks::iterator block, size_t bytes) {
  const size_t rest = block->second.bytes - bytes;
  if (rest < kAlignment) return;
  block->second.bytes = bytes;
  char* start = block->first + bytes;
  blocks_.insert_or_assign(start, Block{rest, true, false});
  free_blocks_.insert({rest, start});
}

CachingHostAllocator::Blocks::iterator CachingHostAllocator::merge_with_neighbours(Blocks::iterator block) {
  const auto next = std::next(block);
  if (next != blocks_.end() && next->second.free && !next->second.first_of_segment) {
    free_blocks_.erase({next->second.bytes, next->first});
    block->second.bytes += next->second.bytes;
    blocks_.erase(next);
  }
  if (!block->second.first_of_segment) {
    const auto previous = std::prev(block);
    if (previous->second.free) {
      free_blocks_.erase({previous->second.bytes, previous->first});
      previous->second.bytes += block->second.bytes;
      blocks_.erase(block);
      return previous;
    }
  }
  return block;
}

}  // namespace deepflow
