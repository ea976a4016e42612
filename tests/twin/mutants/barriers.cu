#include "kernels/cuda/device.cuh"
#include "tests/twin/mutants/mutants.h"

#include <cmath>

namespace mutants {

namespace {

constexpr int kThreads = 256;

enum Fault {
  kNone,
  kNoBarrierAfterPartials,
  kNoBarrierBeforeReuse,
  kBarrierInOneWarp,
  kReturnBeforeBarrier,
  kTwoBarriers,
  kBarrierCountDiffers
};

template <int kFault>
__device__ float sum_of_block(float v) {
  DEV_SHARED(float, partial, kThreads / 32);
  v = dev::warp_sum(v);
  if constexpr (kFault != kNoBarrierBeforeReuse) dev::sync_block();
  if (dev::lane() == 0) partial[threadIdx.x / 32] = v;
  if constexpr (kFault == kBarrierInOneWarp) {
    if (threadIdx.x < 32) dev::sync_block();
  } else if constexpr (kFault != kNoBarrierAfterPartials) {
    dev::sync_block();
  }
  float sum = 0;
  for (int w = 0; w < kThreads / 32; ++w) sum += partial[w];
  return sum;
}

// y[i] = 2 * (sum of the block's x)
template <int kFault>
__global__ void __launch_bounds__(kThreads) block_sums(const float* x, float* y) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if constexpr (kFault == kReturnBeforeBarrier) {
    if (threadIdx.x > 200) return;
  }
  if constexpr (kFault == kTwoBarriers) {
    if (threadIdx.x % 64 < 32) {
      dev::sync_block();
    } else {
      dev::sync_block();
    }
  }
  if constexpr (kFault == kBarrierCountDiffers) {
    for (unsigned k = 0; k < 1 + threadIdx.x / 128; ++k) dev::sync_block();
  }
  const float first = sum_of_block<kFault>(x[i]);
  y[i] = first + sum_of_block<kFault>(x[i]);
}

template <int kFault>
cudaError_t run_block_sums(const Buffers& b) {
  return dev_launch(block_sums<kFault>, kN / kThreads, kThreads, 0, b.stream, b.x, b.y);
}

bool block_sums_correct(const Result& r) {
  for (int i = 0; i < kN; ++i) {
    double want = 0;
    for (int k = 0; k < kThreads; ++k) want += 2.0 * r.x[i / kThreads * kThreads + k];
    if (!(std::fabs(want - r.y[i]) < 1e-3)) return false;
  }
  return true;
}

// A 32 x 32 tile transposed through dynamic shared memory by 8 rows of threads.
template <bool kBarrier>
__global__ void __launch_bounds__(256) transpose(const float* x, float* y) {
  DEV_DYN_SHARED(float, tile);
  for (unsigned row = threadIdx.y; row < 32; row += 8) tile[row * 33 + threadIdx.x] = x[row * 32 + threadIdx.x];
  if constexpr (kBarrier) dev::sync_block();
  for (unsigned row = threadIdx.y; row < 32; row += 8) y[row * 32 + threadIdx.x] = tile[threadIdx.x * 33 + row];
}

template <bool kBarrier>
cudaError_t run_transpose(const Buffers& b) {
  return dev_launch(transpose<kBarrier>, 1, dim3(32, 8), 32 * 33 * sizeof(float), b.stream, b.x, b.y);
}

bool transpose_correct(const Result& r) {
  for (int i = 0; i < kN; ++i) {
    if (r.y[i] != r.x[i % 32 * 32 + i / 32]) return false;
  }
  return true;
}

__global__ void many_barriers(int count) {
  for (int i = 0; i < count; ++i) dev::sync_block();
}

}  // namespace

cudaError_t run_many_barriers(int count, const Buffers& b) {
  return dev_launch(many_barriers, 1, 32, 0, b.stream, count);
}

std::vector<Case> barrier_cases() {
  using twin::Kind;
  return {
      {"BlockSum", {}, run_block_sums<kNone>, block_sums_correct, false},
      {"Transpose", {}, run_transpose<true>, transpose_correct, false},
      {"NoBarrierAfterPartials", Kind::kRace, run_block_sums<kNoBarrierAfterPartials>},
      {"NoBarrierBeforeReuse", Kind::kRace, run_block_sums<kNoBarrierBeforeReuse>},
      {"BarrierInOneWarp", Kind::kBarrier, run_block_sums<kBarrierInOneWarp>},
      {"ReturnBeforeBarrier", Kind::kDeadlock, run_block_sums<kReturnBeforeBarrier>},
      {"TwoBarriersInBranches", Kind::kBarrier, run_block_sums<kTwoBarriers>},
      {"BarrierCountDiffers", Kind::kBarrier, run_block_sums<kBarrierCountDiffers>},
      {"TransposeWithoutBarrier", Kind::kRace, run_transpose<false>},
  };
}

}  // namespace mutants
