#include "core/cuda_memory.h"

#include "core/cuda_check.h"
#include "core/error.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

namespace deepflow {
namespace {

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

cudaMemPool_t make_pool(int device) {
  cudaMemPoolProps props{};
  props.allocType = cudaMemAllocationTypePinned;
  props.location.type = cudaMemLocationTypeDevice;
  props.location.id = device;
  cudaMemPool_t pool = nullptr;
  check_cuda(cudaMemPoolCreate(&pool, &props), "making a memory pool");
  uint64_t keep_everything = UINT64_MAX;
  const cudaError_t error = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_everything);
  if (error == cudaSuccess) return pool;
  cudaMemPoolDestroy(pool);
  throw_cuda_error(error, "configuring a memory pool");
}

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(Stream& stream)
      : device_(stream.device()), stream_(native(stream)), pool_(make_pool(stream.device().index)) {}
  ~CudaAllocator() override {
    for (const auto& [block, bytes] : blocks_) cudaFreeAsync(block, stream_);
    cudaStreamSynchronize(stream_);
    cudaMemPoolDestroy(pool_);
  }
  CudaAllocator(const CudaAllocator&) = delete;
  CudaAllocator& operator=(const CudaAllocator&) = delete;

  Device device() const override { return device_; }

  void* allocate(size_t bytes) override {
    bytes = std::max<size_t>(bytes, 1);
    const std::lock_guard lock(mutex_);
    void* block = nullptr;
    const cudaError_t error = cudaMallocFromPoolAsync(&block, bytes, pool_, stream_);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw StorageError(
          "out of memory on {}: cannot get {} MiB more ({} MiB in use); use a smaller micro-batch or more ranks",
          device_.to_string(), bytes >> 20, stats_.in_use >> 20);
    }
    check_cuda(error, "allocating device memory");
    blocks_.emplace(block, bytes);
    count(bytes);
    return block;
  }

  void free(void* block) override {
    if (!block) return;
    const std::lock_guard lock(mutex_);
    const auto known = blocks_.find(block);
    DF_ASSERT(known != blocks_.end(), "free of a block that is not in use");
    stats_.in_use -= static_cast<int64_t>(known->second);
    blocks_.erase(known);
    check_cuda(cudaFreeAsync(block, stream_), "freeing device memory");
  }

  MemoryStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  void count(size_t bytes) {
    ++stats_.num_allocs;
    stats_.in_use += static_cast<int64_t>(bytes);
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    uint64_t reserved = 0;
    check_cuda(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &reserved), "asking a memory pool");
    if (static_cast<int64_t>(reserved) > stats_.reserved) ++stats_.num_maps;
    stats_.reserved = static_cast<int64_t>(reserved);
  }

  Device device_;
  cudaStream_t stream_;
  cudaMemPool_t pool_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> blocks_;
  MemoryStats stats_;
};

class PinnedAllocator final : public Allocator {
 public:
  PinnedAllocator() = default;
  ~PinnedAllocator() override {
    for (const auto& [block, bytes] : blocks_) cudaFreeHost(block);
  }
  PinnedAllocator(const PinnedAllocator&) = delete;
  PinnedAllocator& operator=(const PinnedAllocator&) = delete;

  Device device() const override { return {}; }

  void* allocate(size_t bytes) override {
    bytes = std::max<size_t>(bytes, 1);
    const std::lock_guard lock(mutex_);
    void* block = nullptr;
    const cudaError_t error = cudaMallocHost(&block, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw StorageError("out of page-locked memory: cannot get {} MiB more ({} MiB in use)", bytes >> 20,
                         stats_.in_use >> 20);
    }
    check_cuda(error, "allocating page-locked memory");
    blocks_.emplace(block, bytes);
    ++stats_.num_allocs;
    ++stats_.num_maps;
    stats_.in_use += static_cast<int64_t>(bytes);
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    stats_.reserved = stats_.in_use;
    return block;
  }

  void free(void* block) override {
    if (!block) return;
    const std::lock_guard lock(mutex_);
    const auto known = blocks_.find(block);
    DF_ASSERT(known != blocks_.end(), "free of a block that is not in use");
    stats_.in_use -= static_cast<int64_t>(known->second);
    stats_.reserved = stats_.in_use;
    blocks_.erase(known);
    check_cuda(cudaFreeHost(block), "freeing page-locked memory");
  }

  MemoryStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> blocks_;
  MemoryStats stats_;
};

}  // namespace

std::unique_ptr<Allocator> make_cuda_allocator(Stream& stream) { return std::make_unique<CudaAllocator>(stream); }

std::unique_ptr<Allocator> make_pinned_allocator() { return std::make_unique<PinnedAllocator>(); }

void copy_async(void* to, const void* from, size_t bytes, Stream& stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)), "copying");
}

}  // namespace deepflow
