#include "kernels/cuda/device.cuh"
#include "tests/twin/mutants/streams.h"

namespace mutants {

namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) scale_kernel(float* x, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i < n) x[i] *= factor;
}

__global__ void __launch_bounds__(kThreads) add_kernel(const float* x, float* y, int n) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i < n) y[i] += x[i];
}

unsigned blocks(int n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }

}  // namespace

cudaError_t scale(float* x, float factor, int n, cudaStream_t stream) {
  return dev_launch(scale_kernel, blocks(n), kThreads, 0, stream, x, factor, n);
}

cudaError_t add(const float* x, float* y, int n, cudaStream_t stream) {
  return dev_launch(add_kernel, blocks(n), kThreads, 0, stream, x, y, n);
}

}  // namespace mutants
