#include "kernels/ops/newton_schulz.h"

#include "core/error.h"
#include "kernels/cpu/newton_schulz.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
constexpr double kEps = 1e-7;          // beside the norm
constexpr int64_t kGrain = 16 * 1024;  // elements worth waking a thread for

// x = a x + b y.
void blend_into(Runtime& runtime, float a, Tensor& x, float b, const Tensor& y) {
  char* to = static_cast<char*>(x.raw());
  const float* from = y.data<float>();
  const int64_t size = static_cast<int64_t>(size_of(x.dtype()));
  runtime.pool().parallel_for(x.num_elements(), kGrain, [&](int64_t begin, int64_t end) {
    DF_KERNEL(runtime.isa(), blend_into)(a, to + begin * size, x.dtype(), b, from + begin, end - begin);
  });
}

}  // namespace

int64_t newton_schulz_bytes(int64_t rows, int64_t cols, DType dtype) {
  const auto size = static_cast<int64_t>(size_of(dtype)), side = std::min(rows, cols);
  const int64_t product = 4 * rows * cols, copy = dtype == DType::kF32 ? 0 : size * rows * cols;
  return product + copy + (size + 4) * side * side;
}

void newton_schulz(Runtime& runtime, Tensor& matrix, int64_t steps, DType dtype) {
  DF_ASSERT(matrix.is_contiguous() && (dtype == DType::kF32 || dtype == DType::kBF16));
  const int64_t rows = matrix.rows(), cols = matrix.cols(), side = std::min(rows, cols);
  const bool tall = rows > cols;
  const double norm = std::sqrt(sum_squares(runtime, matrix.view({rows * cols})));
  scale(runtime, matrix, static_cast<float>(1 / (norm + kEps)));

  Tensor x = matrix;
  if (dtype != DType::kF32) {
    x = Tensor::empty(runtime.memory(), {rows, cols}, dtype);
    copy(runtime, matrix, x);
  }
  Tensor product = Tensor::empty(runtime.memory(), {rows, cols}, DType::kF32);
  Tensor a = Tensor::empty(runtime.memory(), {side, side}, dtype);
  Tensor square = Tensor::empty(runtime.memory(), {side, side}, DType::kF32);
  for (int64_t i = 0; i < steps; ++i) {
    matmul(runtime, x, x, a, {.transpose_a = tall, .transpose_b = !tall});
    matmul(runtime, a, a, square, {.transpose_b = true});  // a is symmetric
    blend_into(runtime, kB, a, kC, square);
    if (tall)
      matmul(runtime, x, a, product);
    else
      matmul(runtime, a, x, product);
    blend_into(runtime, kA, x, 1, product);
  }
  if (dtype != DType::kF32) copy(runtime, x, matrix);
}

}  // namespace deepflow
