#include "kernels/ops/adafactor.h"

#include "kernels/cpu/adafactor.h"
#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kElements = 16 * 1024;  // worth waking a thread for

int64_t grain(int64_t of_each) { return std::max<int64_t>(1, kElements / std::max<int64_t>(1, of_each)); }

// f(row) for every row on all threads; sums what it returns in the order of rows.
template <class F>
double sum_of_rows(Runtime& runtime, int64_t rows, int64_t cols, F&& f) {
  std::vector<double> sums(static_cast<size_t>(rows));
  runtime.pool().parallel_for(rows, grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[static_cast<size_t>(i)] = static_cast<double>(f(i));
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

void sum_squares_by_row_and_column(Runtime& runtime, const GradientPart& part, float scale, float* by_row,
                                   float* by_col) {
  const double square = static_cast<double>(scale) * static_cast<double>(scale);
  runtime.pool().parallel_for(part.rows, grain(part.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      by_row[i] = static_cast<float>(square * DF_KERNEL(runtime.isa(), sum_squares)(part.g + i * part.cols, part.cols));
  });
  const int64_t stripe = std::max<int64_t>(64, grain(part.rows) / 64 * 64);
  runtime.pool().parallel_for(part.cols, stripe, [&](int64_t begin, int64_t end) {
    std::fill(by_col + begin, by_col + end, 0.0f);
    for (int64_t i = 0; i < part.rows; ++i)
      DF_KERNEL(runtime.isa(), add_squares)(part.g + i * part.cols + begin, scale, by_col + begin, end - begin);
  });
}

double factored_direction(Runtime& runtime, const GradientPart& part, const float* row, const float* col) {
  return sum_of_rows(runtime, part.rows, part.cols, [&](int64_t i) {
    return DF_KERNEL(runtime.isa(), factored_direction)(row[i], col, part.g + i * part.cols, part.cols);
  });
}

double vector_direction(Runtime& runtime, float beta2, float scale, float eps, float* v, float* g, int64_t n) {
  constexpr int64_t kPiece = 1024;
  return sum_of_rows(runtime, (n + kPiece - 1) / kPiece, kPiece, [&](int64_t i) {
    const int64_t begin = i * kPiece;
    return DF_KERNEL(runtime.isa(), vector_direction)(1 - beta2, scale, eps, v + begin, g + begin,
                                                      std::min(kPiece, n - begin));
  });
}

}  // namespace deepflow
