#pragma once

#include <cstddef>
#include <map>
#include <memory>

namespace deepflow {

// Buffers for what arrives before it is added up, kept for the next piece. For one thread; buffers must not outlive it.
class StagingPool {
 public:
  struct Return {
    StagingPool* pool;
    size_t bytes;
    void operator()(char* memory) const;
  };
  using Buffer = std::unique_ptr<char, Return>;

  explicit StagingPool(size_t keep_bytes = size_t{64} << 20) : keep_bytes_(keep_bytes) {}
  ~StagingPool();
  StagingPool(const StagingPool&) = delete;
  StagingPool& operator=(const StagingPool&) = delete;

  Buffer take(size_t bytes);  // 64-byte aligned, not initialised; null for 0

 private:
  const size_t keep_bytes_;
  size_t kept_ = 0;
  std::multimap<size_t, char*> free_;
};

}  // namespace deepflow
