#include "core/cuda_device.h"
#include "core/cuda_memory.h"
#include "core/cuda_stream.h"
#include "core/error.h"
#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cstring>

namespace deepflow {
namespace {

constexpr size_t kBytes = 4096;

TEST(CudaDevice, IsListedWithNameAndMemory) {
  const CudaInventory inventory = find_cuda_devices();
  ASSERT_FALSE(inventory.devices.empty()) << inventory.why_none;
  const CudaDevice& device = inventory.devices[0];
  EXPECT_EQ(device.index, 0);
  EXPECT_FALSE(device.name.empty());
  EXPECT_GE(device.major, 8);
  EXPECT_GT(device.memory_bytes, 0);
  EXPECT_GT(device.num_multiprocessors, 0);
}

TEST(CudaDevice, ThatDoesNotExistIsAnError) { EXPECT_THROW(use_cuda_device(1 << 20), DeviceError); }

TEST(CudaStream, KnowsItsDevice) {
  const auto stream = make_cuda_stream(0);
  EXPECT_EQ(stream->device(), (Device{DeviceType::kCuda, 0}));
  EXPECT_NE(stream->native(), nullptr);
}

TEST(CudaStream, EventsOrderStreamsAndTheHost) {
  const auto a = make_cuda_stream(0), b = make_cuda_stream(0);
  const auto memory = make_cuda_allocator(*a), pinned = make_pinned_allocator();
  auto* in = static_cast<char*>(pinned->allocate(kBytes));
  auto* out = static_cast<char*>(pinned->allocate(kBytes));
  std::memset(in, 7, kBytes);
  std::memset(out, 0, kBytes);
  void* device = memory->allocate(kBytes);
  copy_async(device, in, kBytes, *a);
  b->wait(*a->record());
  copy_async(out, device, kBytes, *b);
  const auto copied = b->record();
  copied->wait_host();
  EXPECT_EQ(std::memcmp(in, out, kBytes), 0);
  a->wait(*copied);
  memory->free(device);
  a->synchronize();
  pinned->free(in);
  pinned->free(out);
}

TEST(CudaStream, WaitsForEventsOfTheCpu) {
  const auto cpu = make_cpu_stream();
  const auto gpu = make_cuda_stream(0);
  gpu->wait(*cpu->record());
  cpu->wait(*gpu->record());
  gpu->synchronize();
}

TEST(CudaAllocator, CountsWhatIsInUse) {
  const auto stream = make_cuda_stream(0);
  const auto memory = make_cuda_allocator(*stream);
  EXPECT_EQ(memory->device().type, DeviceType::kCuda);
  void* a = memory->allocate(1000);
  void* b = memory->allocate(3000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 256, 0u);
  EXPECT_EQ(memory->stats().in_use, 4000);
  memory->free(a);
  EXPECT_EQ(memory->stats().in_use, 3000);
  memory->free(b);
  const MemoryStats stats = memory->stats();
  EXPECT_EQ(stats.in_use, 0);
  EXPECT_EQ(stats.peak, 4000);
  EXPECT_EQ(stats.num_allocs, 2);
  EXPECT_GE(stats.reserved, 4000);
}

TEST(CudaAllocator, OwnsTheMemoryOfTensors) {
  const auto stream = make_cuda_stream(0);
  const auto memory = make_cuda_allocator(*stream);
  {
    const Tensor t = Tensor::empty(*memory, {16, 32}, DType::kBF16);
    EXPECT_EQ(t.device().type, DeviceType::kCuda);
    EXPECT_EQ(memory->stats().in_use, 16 * 32 * 2);
  }
  EXPECT_EQ(memory->stats().in_use, 0);
}

TEST(CudaAllocator, TooMuchIsAStorageError) {
  const auto stream = make_cuda_stream(0);
  const auto memory = make_cuda_allocator(*stream);
  EXPECT_THROW(memory->allocate(size_t{1} << 50), StorageError);
  void* p = memory->allocate(1);  // and goes on afterwards
  memory->free(p);
}

TEST(PinnedAllocator, CountsWhatIsInUse) {
  const auto memory = make_pinned_allocator();
  void* p = memory->allocate(1000);
  std::memset(p, 1, 1000);
  EXPECT_EQ(memory->stats().in_use, 1000);
  memory->free(p);
  EXPECT_EQ(memory->stats().in_use, 0);
  EXPECT_EQ(memory->stats().peak, 1000);
}

}  // namespace
}  // namespace deepflow
