#include "core/cuda_check.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/device.cuh"

namespace deepflow::cuda {
namespace {

constexpr int kCols = 32, kRows = 8;  // of a block of threads
constexpr int64_t kOnePass = 512;     // rows that one block sums without help
constexpr int64_t kMaxParts = 64;

// Block (x, y) sums columns [32 x, 32 x + 32) over the y-th run of rows into out[y].
template <class T>
__global__ void __launch_bounds__(kCols* kRows) sum_columns(const T* x, int64_t rows, int64_t rows_per_part, int64_t ld,
                                                            int64_t cols, float* out, bool accumulate) {
  DEV_SHARED(float, sums, kRows* kCols);
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kCols + threadIdx.x;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * rows_per_part;
  const int64_t end = dev::min(begin + rows_per_part, rows);
  float sum = 0;
  if (col < cols) {
    for (int64_t row = begin + threadIdx.y; row < end; row += kRows) sum += dev::to_float(x[row * ld + col]);
  }
  sums[threadIdx.y * kCols + threadIdx.x] = sum;
  dev::sync_block();
  if (threadIdx.y != 0 || col >= cols) return;
  for (int k = 1; k < kRows; ++k) sum += sums[k * kCols + threadIdx.x];
  float* target = out + static_cast<int64_t>(blockIdx.y) * cols + col;
  *target = accumulate ? *target + sum : sum;
}

template <class T>
void launch(const T* x, int64_t rows, int64_t parts, int64_t ld, int64_t cols, float* out, bool accumulate,
            Stream& stream) {
  const dim3 grid(static_cast<unsigned>((cols + kCols - 1) / kCols), static_cast<unsigned>(parts));
  const int64_t rows_per_part = (rows + parts - 1) / parts;
  check_cuda(dev_launch(sum_columns<T>, grid, dim3(kCols, kRows), 0, static_cast<cudaStream_t>(stream.native()), x,
                        rows, rows_per_part, ld, cols, out, accumulate),
             "column sums");
}

}  // namespace

int64_t column_sums_parts(int64_t rows) {
  if (rows <= kOnePass) return 0;
  const int64_t parts = (rows + kOnePass - 1) / kOnePass;
  return parts < kMaxParts ? parts : kMaxParts;
}

template <class T>
void column_sums(const T* x, int64_t rows, int64_t ld, int64_t cols, float* partial, float* sums, bool accumulate,
                 Stream& stream) {
  if (cols == 0) return;
  const int64_t parts = column_sums_parts(rows);
  if (parts == 0) {
    launch(dev::native(x), rows, 1, ld, cols, sums, accumulate, stream);
    return;
  }
  DF_CUDA_ASSERT(partial != nullptr);
  launch(dev::native(x), rows, parts, ld, cols, partial, false, stream);
  launch(static_cast<const float*>(partial), parts, 1, cols, cols, sums, accumulate, stream);
}

template void column_sums(const float*, int64_t, int64_t, int64_t, float*, float*, bool, Stream&);
template void column_sums(const BF16*, int64_t, int64_t, int64_t, float*, float*, bool, Stream&);

}  // namespace deepflow::cuda
