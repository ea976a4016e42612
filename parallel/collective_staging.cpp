#include "parallel/collective_staging.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace deepflow {

void StagingPool::Return::operator()(char* memory) const {
  if (pool->kept_ + bytes > pool->keep_bytes_) return std::free(memory);
  pool->kept_ += bytes;
  pool->free_.emplace(bytes, memory);
}

StagingPool::~StagingPool() {
  for (const auto& block : free_) std::free(block.second);
}

StagingPool::Buffer StagingPool::take(size_t bytes) {
  if (bytes == 0) return Buffer(nullptr, Return{this, 0});
  const size_t size = std::bit_ceil(bytes < 4096 ? size_t{4096} : bytes);
  const auto found = free_.find(size);
  if (found == free_.end()) {
    auto* memory = static_cast<char*>(std::aligned_alloc(64, size));
    if (!memory) throw std::bad_alloc();
    return Buffer(memory, Return{this, size});
  }
  char* memory = found->second;
  free_.erase(found);
  kept_ -= size;
  return Buffer(memory, Return{this, size});
}

}  // namespace deepflow
