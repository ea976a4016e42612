#include "core/cuda_check.h"
#include "kernels/cuda/adamw.h"
#include "kernels/cuda/device.cuh"

namespace deepflow::cuda {
namespace {

constexpr int kThreads = 256;

template <int N>
__device__ void update(const cpu::AdamwConstants& c, float* master, float* m, float* v, const float* gradient) {
  float p[N], first[N], second[N], g[N];
  dev::load<N>(master, p);
  dev::load<N>(m, first);
  dev::load<N>(v, second);
  dev::load<N>(gradient, g);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float scaled = g[k] * c.gradient_scale;
    first[k] = dev::fma(scaled - first[k], c.one_minus_beta1, first[k]);
    second[k] = dev::fma(c.one_minus_beta2 * scaled, scaled, c.beta2 * second[k]);
    const float denominator = dev::fma(dev::sqrt(second[k]), c.inverse_root, c.eps);
    p[k] = dev::fma(-c.step_size, first[k] / denominator, p[k] * c.decay);
  }
  dev::store<N>(master, p);
  dev::store<N>(m, first);
  dev::store<N>(v, second);
}

// N neighbours a thread; the last thread takes what does not fill N.
template <int N>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(cpu::AdamwConstants c, float* master, float* m, float* v, const float* gradient, int64_t n) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  if (first + N <= n) {
    update<N>(c, master + first, m + first, v + first, gradient + first);
  } else {
    for (int64_t j = first; j < n; ++j) update<1>(c, master + j, m + j, v + j, gradient + j);
  }
}

}  // namespace

void adamw(const cpu::AdamwConstants& constants, float* master, float* m, float* v, const float* gradient, int64_t n,
           Stream& stream) {
  if (n == 0) return;
  const bool four = dev::aligned_for_four(master, m, v, gradient);
  const int64_t per_block = kThreads * (four ? 4 : 1);
  check_cuda(
      dev_launch(four ? adamw_kernel<4> : adamw_kernel<1>, static_cast<unsigned>((n + per_block - 1) / per_block),
                 kThreads, 0, static_cast<cudaStream_t>(stream.native()), constants, master, m, v, gradient, n),
      "AdamW");
}

}  // namespace deepflow::cuda
