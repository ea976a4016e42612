#include "kernels/cuda/device.cuh"
#include "tests/twin/mutants/mutants.h"

#include <algorithm>
#include <cmath>

namespace mutants {

namespace {

constexpr int kThreads = 256, kBins = 64;

__device__ int bin_of(float v) { return static_cast<int>(dev::bits_of(v) >> 8) & (kBins - 1); }

enum Fault { kNone, kPlainIncrement, kNoBarrierAfterClear, kNoBarrierAfterCount };

// counter[0, kBins) = histogram of all x: in shared memory first, then added with atomics.
template <int kFault>
__global__ void __launch_bounds__(kThreads) histogram(const float* x, uint32_t* counter) {
  DEV_SHARED(uint32_t, count, kBins);
  const unsigned t = threadIdx.x;
  if (t < kBins) count[t] = 0;
  if constexpr (kFault != kNoBarrierAfterClear) dev::sync_block();
  const int bin = bin_of(x[blockIdx.x * kThreads + t]);
  if constexpr (kFault == kPlainIncrement) {
    count[bin] += 1;
  } else {
    dev::atomic_add(&count[bin], 1u);
  }
  if constexpr (kFault != kNoBarrierAfterCount) dev::sync_block();
  if (t < kBins) dev::atomic_add(&counter[t], count[t]);
}

template <int kFault>
cudaError_t run_histogram(const Buffers& b) {
  return dev_launch(histogram<kFault>, kN / kThreads, kThreads, 0, b.stream, b.x, b.counter);
}

bool histogram_correct(const Result& r) {
  std::vector<uint32_t> want(kBins);
  for (float v : r.x) ++want[__builtin_bit_cast(uint32_t, v) >> 8 & (kBins - 1)];
  return std::equal(want.begin(), want.end(), r.counter.begin());
}

__global__ void blocks_write_one_place(const float* x, float* y) {
  y[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
}

// In place with the source of another thread: a race when y is x.
__global__ void rotate(const float* x, float* y) { y[(threadIdx.x + 1) % kThreads] = x[threadIdx.x]; }

cudaError_t run_rotate_in_place(const Buffers& b) {
  return dev_launch(rotate, 1, kThreads, 0, b.stream, static_cast<const float*>(b.y), b.y);
}
cudaError_t run_rotate(const Buffers& b) { return dev_launch(rotate, 1, kThreads, 0, b.stream, b.x, b.y); }
bool rotate_correct(const Result& r) { return r.y[0] == r.x[kThreads - 1] && r.y[1] == r.x[0]; }

// The block that finishes last sums what the others wrote, in the same launch.
__global__ void last_block_sums(const float* x, float* y, uint32_t* counter) {
  DEV_SHARED(uint32_t, before, 1);
  if (threadIdx.x == 0) {
    y[1 + blockIdx.x] = x[blockIdx.x];
    before[0] = dev::atomic_add(counter, 1u);
  }
  dev::sync_block();
  if (before[0] + 1 != gridDim.x || threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += y[1 + i];
  y[0] = sum;
}

// A counter read in the launch that counts.
__global__ void read_while_counting(float* y, uint32_t* counter) {
  dev::atomic_add(counter, 1u);
  y[threadIdx.x] = static_cast<float>(counter[0]);
}

// Neighbouring bytes, and halves of one word, belong to different threads: no race.
__global__ void neighbouring_bytes(uint32_t* counter) {
  auto* bytes = reinterpret_cast<uint8_t*>(counter);
  bytes[threadIdx.x] = static_cast<uint8_t>(threadIdx.x);
  auto* halves = reinterpret_cast<uint16_t*>(counter + 256);
  halves[threadIdx.x] = static_cast<uint16_t>(threadIdx.x);
}

// Each byte is written twice.
__global__ void overlapping_bytes(uint32_t* counter) {
  reinterpret_cast<uint8_t*>(counter)[threadIdx.x / 2] = static_cast<uint8_t>(threadIdx.x);
}

// y[t] = when thread t came.
__global__ void arrivals(float* y, uint32_t* counter) {
  y[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<float>(dev::atomic_add(counter, 1u));
}

// An atomic between two counters.
__global__ void misaligned_atomic(uint32_t* counter) {
  dev::atomic_add(reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(counter) + 2), 1u);
}

bool neighbouring_correct(const Result& r) { return r.counter[1] == 0x07060504 && r.counter[257] == 0x00030002; }

}  // namespace

cudaError_t run_arrivals(const Buffers& b) {
  return dev_launch(arrivals, kN / kThreads, kThreads, 0, b.stream, b.y, b.counter);
}

std::vector<Case> race_cases() {
  using twin::Kind;
  return {
      {"Histogram", {}, run_histogram<kNone>, histogram_correct, false},
      {"Rotate", {}, run_rotate, rotate_correct, false},
      {"NeighbouringBytes",
       {},
       [](const Buffers& b) { return dev_launch(neighbouring_bytes, 1, kThreads, 0, b.stream, b.counter); },
       neighbouring_correct,
       false},
      {"PlainIncrementInHistogram", Kind::kRace, run_histogram<kPlainIncrement>},
      {"NoBarrierAfterClear", Kind::kRace, run_histogram<kNoBarrierAfterClear>},
      {"NoBarrierAfterCount", Kind::kRace, run_histogram<kNoBarrierAfterCount>},
      {"BlocksWriteOnePlace", Kind::kRace,
       [](const Buffers& b) { return dev_launch(blocks_write_one_place, 2, kThreads, 0, b.stream, b.x, b.y); }},
      {"InPlaceRotation", Kind::kRace, run_rotate_in_place},
      {"LastBlockPattern", Kind::kRace,
       [](const Buffers& b) { return dev_launch(last_block_sums, 4, 64, 0, b.stream, b.x, b.y, b.counter); }},
      {"CounterReadInItsLaunch", Kind::kRace,
       [](const Buffers& b) { return dev_launch(read_while_counting, 1, 64, 0, b.stream, b.y, b.counter); }},
      {"MisalignedAtomic", Kind::kMisaligned,
       [](const Buffers& b) { return dev_launch(misaligned_atomic, 1, 32, 0, b.stream, b.counter); }},
      {"OverlappingBytes", Kind::kRace,
       [](const Buffers& b) { return dev_launch(overlapping_bytes, 1, 64, 0, b.stream, b.counter); }},
  };
}

}  // namespace mutants
