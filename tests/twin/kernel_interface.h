#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <source_location>

// What compiled kernels call; device_primitives.h puts the dev:: names on top.
namespace twin {

using Place = std::source_location;

void wait_at_barrier(const Place& place);

enum class WarpOperation : uint8_t { kSync, kShuffle, kBallot, kMma };
struct WarpCall {
  WarpOperation operation;
  Place place;
  uint64_t value = 0;   // shuffle: what others may read; ballot: 0 or 1
  unsigned source = 0;  // shuffle: the lane to read
  uint64_t result = 0;  // of a shuffle or ballot
  float* d = nullptr;   // mma: accumulators, 4 of a 16 x 8 tile
  const uint32_t* a = nullptr;
  const uint32_t* b = nullptr;
};
// Waits until all 32 lanes of the warp stand at the same call, then carries it out for all.
void wait_in_warp(WarpCall& call);

// Memory of one DEV_SHARED array in the running block, the same for all its threads; `key` names the array.
void* static_shared(const void* key, size_t bytes, size_t alignment);
void* dynamic_shared();

// Reports an address that a vector access of `bytes` cannot use.
void check_vector(const void* p, size_t bytes);

enum class AtomicOperation : uint8_t { kAdd, kMax, kMin, kOr, kExchange };
// The old value; 4 or 8 bytes.
uint64_t atomic_update(void* p, unsigned bytes, AtomicOperation operation, bool is_signed, uint64_t operand);

// A kernel with its arguments, bound at launch as a GPU copies them.
class KernelCall {
 public:
  virtual ~KernelCall() = default;
  virtual void run() = 0;
  size_t bytes = 0;  // of the whole object: kernels may read their parameters in it
};
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::unique_ptr<KernelCall> call);

}  // namespace twin
