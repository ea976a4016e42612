#include "kernels/ops/elementwise.h"

#include "core/error.h"
#include "kernels/cpu/elementwise.h"

#include <atomic>
#include <cstring>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kGrain = 16 * 1024;              // elements worth waking a thread for
constexpr int64_t kSumBlock = int64_t{64} * 1024;  // fixed, so that a sum does not depend on the number of threads

bool is_float(const Tensor& t) {
  return t.dtype() == DType::kF32 || t.dtype() == DType::kBF16 || t.dtype() == DType::kF16;
}

char* element(const Tensor& t, int64_t row, int64_t col) {
  return static_cast<char*>(t.raw()) + static_cast<size_t>(row * t.ld() + col) * size_of(t.dtype());
}

// f(row, first column, n) over all elements in runs that lie contiguously in every one of the tensors.
template <class F>
void for_each_run(Runtime& runtime, int64_t rows, int64_t cols, bool contiguous, F&& f) {
  if (contiguous) {
    runtime.pool().parallel_for(rows * cols, kGrain, [&](int64_t begin, int64_t end) { f(0, begin, end - begin); });
    return;
  }
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols));
  runtime.pool().parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r, 0, cols);
  });
}

void check_same_extents(const Tensor& a, const Tensor& b) {
  DF_ASSERT(a.rows() == b.rows() && a.cols() == b.cols(), "{} and {}", a.shape().to_string(), b.shape().to_string());
}

}  // namespace

void copy(Runtime& runtime, const Tensor& from, Tensor& to) {
  check_same_extents(from, to);
  const bool same = from.dtype() == to.dtype(), contiguous = from.is_contiguous() && to.is_contiguous();
  DF_ASSERT(same || (is_float(from) && is_float(to)), "{} to {}", name_of(from.dtype()), name_of(to.dtype()));
  auto* convert = DF_KERNEL(runtime.isa(), convert);
  for_each_run(runtime, from.rows(), from.cols(), contiguous, [&](int64_t r, int64_t c, int64_t n) {
    if (same)
      std::memcpy(element(to, r, c), element(from, r, c), static_cast<size_t>(n) * size_of(to.dtype()));
    else
      convert(element(from, r, c), from.dtype(), element(to, r, c), to.dtype(), n);
  });
}

void add_into(Runtime& runtime, Tensor& into, const Tensor& x) {
  check_same_extents(into, x);
  DF_ASSERT(is_float(x) && (into.dtype() == DType::kF32 || into.dtype() == x.dtype()), "{} += {}",
            name_of(into.dtype()), name_of(x.dtype()));
  auto* accumulate = DF_KERNEL(runtime.isa(), accumulate);
  for_each_run(runtime, x.rows(), x.cols(), into.is_contiguous() && x.is_contiguous(),
               [&](int64_t r, int64_t c, int64_t n) {
                 accumulate(element(into, r, c), into.dtype(), element(x, r, c), x.dtype(), n);
               });
}

Tensor owned_copy(Runtime& runtime, Tensor x) {
  if (x.is_sole_owner()) return x;
  Tensor own = Tensor::empty(runtime.memory(), x.shape(), x.dtype());
  copy(runtime, x, own);
  return own;
}

void accumulate_gradient(Runtime& runtime, Tensor& into, const Tensor& x) {
  into = owned_copy(runtime, std::move(into));
  add_into(runtime, into, x);
}

void scale(Runtime& runtime, Tensor& x, float factor) {
  DF_ASSERT(is_float(x), "{}", name_of(x.dtype()));
  auto* scale_run = DF_KERNEL(runtime.isa(), scale);
  for_each_run(runtime, x.rows(), x.cols(), x.is_contiguous(),
               [&](int64_t r, int64_t c, int64_t n) { scale_run(element(x, r, c), x.dtype(), n, factor); });
}

void fill(Runtime& runtime, Tensor& x, float value) {
  DF_ASSERT(is_float(x), "{}", name_of(x.dtype()));
  auto* fill_run = DF_KERNEL(runtime.isa(), fill);
  for_each_run(runtime, x.rows(), x.cols(), x.is_contiguous(),
               [&](int64_t r, int64_t c, int64_t n) { fill_run(element(x, r, c), x.dtype(), n, value); });
}

double sum_squares(Runtime& runtime, const Tensor& x) {
  DF_ASSERT(x.is_contiguous(), "{} with row stride {}", x.shape().to_string(), x.ld());
  const float* p = x.data<float>();
  const int64_t n = x.num_elements(), blocks = (n + kSumBlock - 1) / kSumBlock;
  std::vector<double> sums(static_cast<size_t>(blocks));
  auto* sum_block = DF_KERNEL(runtime.isa(), sum_squares);
  runtime.pool().parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      sums[static_cast<size_t>(b)] = sum_block(p + b * kSumBlock, std::min(kSumBlock, n - b * kSumBlock));
  });
  double total = 0;
  for (const double s : sums) total += s;
  return total;
}

bool all_finite(Runtime& runtime, const Tensor& x) {
  DF_ASSERT(is_float(x), "{}", name_of(x.dtype()));
  std::atomic<bool> finite{true};
  auto* run_is_finite = DF_KERNEL(runtime.isa(), all_finite);
  for_each_run(runtime, x.rows(), x.cols(), x.is_contiguous(), [&](int64_t r, int64_t c, int64_t n) {
    if (!run_is_finite(element(x, r, c), x.dtype(), n)) finite = false;
  });
  return finite;
}

void fill_normal(Runtime& runtime, Tensor& out, const RandomSite& site, float stddev, int64_t row_begin,
                 int64_t col_begin) {
  DF_ASSERT(out.dtype() == DType::kF32, "{}", name_of(out.dtype()));
  const int64_t cols = out.cols(), ld = out.ld();
  float* p = out.data<float>();
  const int64_t grain = std::max<int64_t>(1, 256 / std::max<int64_t>(1, cols));
  runtime.pool().parallel_for(out.rows(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols;) {
        const int64_t logical = col_begin + c, first = logical % 4, n = std::min(4 - first, cols - c);
        const auto block = random_normals(site, row_begin + r, logical / 4);
        for (int64_t k = 0; k < n; ++k) p[r * ld + c + k] = block[static_cast<size_t>(first + k)] * stddev;
        c += n;
      }
  });
}

}  // namespace deepflow
