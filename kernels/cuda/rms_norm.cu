#include "core/cuda_check.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rms_norm.h"

namespace deepflow::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxParts = 256;

// One block a row. The row stays in shared memory between the two passes; every thread meets only its own elements
// there, so no barrier is needed.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) forward_rows(cpu::NormForward<T> a) {
  DEV_DYN_SHARED(float, kept);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * a.cols, first = static_cast<int64_t>(threadIdx.x) * N;
  float squares = 0;
  for (int64_t j = first; j < a.cols; j += kThreads * N) {
    float v[N];
    dev::load<N>(a.x + row + j, v);
    if (a.delta) {
      float delta[N];
      dev::load<N>(a.delta + row + j, delta);
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] += delta[k];
      dev::store<N>(a.r + row + j, v);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) squares = dev::fma(v[k], v[k], squares);
    dev::store<N>(kept + j, v);
  }
  const float mean = dev::block_sum<kThreads>(squares) * (1.0f / static_cast<float>(a.cols));
  const float inverse = 1.0f / dev::sqrt(mean + a.eps);
  for (int64_t j = first; j < a.cols; j += kThreads * N) {
    float v[N], gain[N];
    dev::load<N>(kept + j, v);
    dev::load<N>(a.gain + j, gain);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] *= inverse * gain[k];
    dev::store<N>(a.y + row + j, v);
  }
  if (threadIdx.x == 0) a.statistics[blockIdx.x] = inverse;
}

// A block takes every gridDim.x-th row and keeps its share of dgain in shared memory, own elements only.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) backward_rows(cpu::NormBackward<T> a, int64_t rows) {
  DEV_DYN_SHARED(float, dgain);
  const int64_t first = static_cast<int64_t>(threadIdx.x) * N;
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  for (int64_t j = first; j < a.cols; j += kThreads * N) {
    const float zeros[N] = {};
    dev::store<N>(dgain + j, zeros);
  }
  for (int64_t i = blockIdx.x; i < rows; i += gridDim.x) {
    const int64_t row = i * a.cols;
    const float inverse = a.statistics[i];
    float product = 0;
    for (int64_t j = first; j < a.cols; j += kThreads * N) {
      float dy[N], r[N], gain[N], sum[N];
      dev::load<N>(a.dy + row + j, dy);
      dev::load<N>(a.r + row + j, r);
      dev::load<N>(a.gain + j, gain);
      dev::load<N>(dgain + j, sum);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const float normed = r[k] * inverse;
        sum[k] = dev::fma(dy[k], normed, sum[k]);
        product = dev::fma(dy[k] * gain[k], normed, product);
      }
      dev::store<N>(dgain + j, sum);
    }
    const float mean_product = dev::block_sum<kThreads>(product) * inverse_cols;
    for (int64_t j = first; j < a.cols; j += kThreads * N) {
      float dy[N], r[N], gain[N], dr[N] = {};
      dev::load<N>(a.dy + row + j, dy);
      dev::load<N>(a.r + row + j, r);
      dev::load<N>(a.gain + j, gain);
      if (a.dr) dev::load<N>(a.dr + row + j, dr);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        dr[k] += dev::fma(-r[k] * inverse, mean_product, dy[k] * gain[k]) * inverse;
      }
      dev::store<N>(a.dx + row + j, dr);
      if (a.ddelta) dev::store<N>(a.ddelta + row + j, dr);
    }
  }
  for (int64_t j = first; j < a.cols; j += kThreads * N) {
    float sum[N];
    dev::load<N>(dgain + j, sum);
    dev::store<N>(a.partial + static_cast<int64_t>(blockIdx.x) * a.cols + j, sum);
  }
}

void check_cols(int64_t cols) { DF_CUDA_ASSERT(cols > 0 && cols <= kMaxNormCols); }

size_t row_bytes(int64_t cols) { return static_cast<size_t>(cols) * sizeof(float); }

}  // namespace

int64_t rms_norm_parts(int64_t rows) { return rows < kMaxParts ? rows : kMaxParts; }

template <class T>
void rms_norm_forward(const cpu::NormForward<T>& a, int64_t rows, Stream& stream) {
  check_cols(a.cols);
  if (rows == 0) return;
  using U = dev::Native<T>;
  const cpu::NormForward<U> b{a.x, dev::native(a.delta), a.gain,      a.bias, a.eps, a.cols,
                              a.r, dev::native(a.y),     a.statistics};
  const bool four = a.cols % 4 == 0 && dev::aligned_for_four(b.x, b.delta, b.gain, b.r, b.y);
  check_cuda(dev_launch(four ? forward_rows<U, 4> : forward_rows<U, 1>, static_cast<unsigned>(rows), kThreads,
                        row_bytes(a.cols), static_cast<cudaStream_t>(stream.native()), b),
             "RMS norm");
}

template <class T>
void rms_norm_backward(const cpu::NormBackward<T>& a, int64_t rows, float* dgain, bool accumulate, Stream& stream) {
  check_cols(a.cols);
  if (rows == 0) return;
  using U = dev::Native<T>;
  const cpu::NormBackward<U> b{a.r,  dev::native(a.dy),     a.dr,     a.gain, a.statistics, a.cols,
                               a.dx, dev::native(a.ddelta), a.partial};
  const bool four = a.cols % 4 == 0 && dev::aligned_for_four(b.r, b.dy, b.dr, b.gain, b.dx, b.ddelta, b.partial);
  const int64_t parts = rms_norm_parts(rows);
  check_cuda(dev_launch(four ? backward_rows<U, 4> : backward_rows<U, 1>, static_cast<unsigned>(parts), kThreads,
                        row_bytes(a.cols), static_cast<cudaStream_t>(stream.native()), b, rows),
             "RMS norm backward");
  column_sums<float>(a.partial, parts, a.cols, a.cols, nullptr, dgain, accumulate, stream);
}

template void rms_norm_forward(const cpu::NormForward<float>&, int64_t, Stream&);
template void rms_norm_forward(const cpu::NormForward<BF16>&, int64_t, Stream&);
template void rms_norm_backward(const cpu::NormBackward<float>&, int64_t, float*, bool, Stream&);
template void rms_norm_backward(const cpu::NormBackward<BF16>&, int64_t, float*, bool, Stream&);

}  // namespace deepflow::cuda
