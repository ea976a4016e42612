#include "kernels/ops/newton_schulz.h"

#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix matrix_of(const Tensor& t) {
  const std::vector<double> v = values_of(t);
  Matrix m(static_cast<size_t>(t.rows()), std::vector<double>(static_cast<size_t>(t.cols())));
  for (size_t i = 0; i < v.size(); ++i) m[i / m[0].size()][i % m[0].size()] = v[i];
  return m;
}
Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c(a.size(), std::vector<double>(b[0].size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t k = 0; k < b.size(); ++k)
      for (size_t j = 0; j < b[0].size(); ++j) c[i][j] += a[i][k] * b[k][j];
  return c;
}
Matrix transposed(const Matrix& a) {
  Matrix t(a[0].size(), std::vector<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[0].size(); ++j) t[j][i] = a[i][j];
  return t;
}

// In f64, always with X X^T.
std::vector<double> reference(const Tensor& start, int64_t steps) {
  Matrix x = matrix_of(start);
  double squares = 0;
  for (const auto& row : x)
    for (const double v : row) squares += v * v;
  for (auto& row : x)
    for (double& v : row) v /= std::sqrt(squares) + 1e-7;
  for (int64_t s = 0; s < steps; ++s) {
    const Matrix a = product(x, transposed(x)), aa = product(a, a);
    Matrix p = a;
    for (size_t i = 0; i < a.size(); ++i)
      for (size_t j = 0; j < a.size(); ++j) p[i][j] = -4.7750 * a[i][j] + 2.0315 * aa[i][j];
    const Matrix px = product(p, x);
    for (size_t i = 0; i < x.size(); ++i)
      for (size_t j = 0; j < x[0].size(); ++j) x[i][j] = 3.4445 * x[i][j] + px[i][j];
  }
  std::vector<double> flat;
  for (const auto& row : x) flat.insert(flat.end(), row.begin(), row.end());
  return flat;
}

TEST(NewtonSchulz, FollowsTheDoubleReference) {
  const Shape shapes[] = {{1, 1}, {1, 7}, {5, 1}, {24, 24}, {16, 40}, {40, 16}, {65, 33}, {70, 129}};
  for (const CpuIsa isa : runnable_isas())
    for (const Shape& shape : shapes)
      for (const int64_t steps : {1, 5}) {
        OpBench bench(DType::kF32, {.threads = 2, .cpu_isa = isa});
        Tensor x = bench.normal("x", shape, DType::kF32, 3);
        const std::vector<double> expected = reference(x, steps);
        newton_schulz(bench.runtime, x, steps, DType::kF32);
        EXPECT_LT(relative_error(values_of(x), expected), 2e-5) << shape.to_string() << " " << steps;
      }
}

// Rounding of small singular values is blown up by as much as they are: bf16 is near, not equal.
TEST(NewtonSchulz, StaysNearInBf16) {
  for (const CpuIsa isa : runnable_isas())
    for (const Shape& shape : {Shape{48, 96}, Shape{96, 48}}) {
      OpBench bench(DType::kF32, {.cpu_isa = isa});
      Tensor x = bench.normal("x", shape, DType::kF32, 3);
      const std::vector<double> expected = reference(x, 5);
      newton_schulz(bench.runtime, x, 5, DType::kBF16);
      EXPECT_LT(relative_error(values_of(x), expected), 0.05);
    }
}

TEST(NewtonSchulz, BringsSingularValuesNearOne) {
  OpBench bench;
  Tensor x = bench.normal("x", {30, 60}, DType::kF32, 100);
  newton_schulz(bench.runtime, x, 5, DType::kF32);
  const Matrix m = matrix_of(x), gram = product(m, transposed(m));
  double trace = 0;
  for (size_t i = 0; i < gram.size(); ++i) {
    trace += gram[i][i];
    EXPECT_GT(gram[i][i], 0.4);
    EXPECT_LT(gram[i][i], 1.6);
  }
  EXPECT_NEAR(trace / 30, 1, 0.35);
}

TEST(NewtonSchulz, LeavesZerosAndForgetsScale) {
  OpBench bench;
  Tensor zeros = bench.empty({8, 12}, DType::kF32);
  fill(bench.runtime, zeros, 0);
  newton_schulz(bench.runtime, zeros, 5, DType::kF32);
  for (const double v : values_of(zeros)) EXPECT_EQ(v, 0);
  Tensor small = bench.normal("x", {8, 12}, DType::kF32, 1e-2f), large = bench.normal("x", {8, 12}, DType::kF32, 1e3f);
  newton_schulz(bench.runtime, small, 5, DType::kF32);
  newton_schulz(bench.runtime, large, 5, DType::kF32);
  EXPECT_LT(relative_error(values_of(small), values_of(large)), 1e-3);
}

}  // namespace
}  // namespace deepflow::testing
