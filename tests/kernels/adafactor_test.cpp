#include "kernels/ops/adafactor.h"

#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

TEST(AdafactorPieces, SumSquaresByRowAndColumnForAnyNumberOfThreads) {
  for (const CpuIsa isa : runnable_isas())
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 200}, Shape{301, 5}, Shape{130, 777}}) {
      std::vector<float> results[2];
      for (const int threads : {1, 2}) {
        OpBench bench(DType::kF32, {.threads = threads, .cpu_isa = isa});
        const Tensor g = bench.normal("g", shape, DType::kF32);
        const int64_t rows = shape[0], cols = shape[1];
        std::vector<float>& sums = results[threads - 1];
        sums.assign(static_cast<size_t>(rows + cols), 99);
        sum_squares_by_row_and_column(bench.runtime, {g.data<float>(), rows, cols}, 0.5f, sums.data(),
                                      sums.data() + rows);
        std::vector<double> expected(sums.size());
        for (int64_t i = 0; i < rows * cols; ++i) {
          const double square = 0.25 * std::pow(static_cast<double>(g.data<float>()[i]), 2);
          expected[static_cast<size_t>(i / cols)] += square;
          expected[static_cast<size_t>(rows + i % cols)] += square;
        }
        EXPECT_LT(relative_error({sums.begin(), sums.end()}, expected), 1e-6) << shape.to_string();
      }
      EXPECT_EQ(results[0], results[1]);
    }
}

TEST(AdafactorPieces, DirectionsReplaceTheGradient) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.threads = 2, .cpu_isa = isa});
    constexpr int64_t kRows = 37, kCols = 45;
    Tensor g = bench.normal("g", {kRows, kCols}, DType::kF32);
    const Tensor row = bench.normal("row", {kRows}, DType::kF32), col = bench.normal("col", {kCols}, DType::kF32);
    std::vector<double> expected = values_of(g);
    double squares = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] *= values_of(row)[i / kCols] * values_of(col)[i % kCols];
      squares += expected[i] * expected[i];
    }
    EXPECT_NEAR(
        factored_direction(bench.runtime, {g.data<float>(), kRows, kCols}, row.data<float>(), col.data<float>()),
        squares, 1e-6 * squares);
    EXPECT_LT(relative_error(values_of(g), expected), 1e-6);
  }
}

TEST(AdafactorPieces, VectorsKeepWholeSecondMoments) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.threads = 2, .cpu_isa = isa});
    constexpr int64_t kElements = 2077;
    Tensor g = bench.normal("g", {kElements}, DType::kF32), v = bench.normal("v", {kElements}, DType::kF32);
    g.data<float>()[3] = 0, v.data<float>()[3] = 0;
    for (int64_t i = 0; i < kElements; ++i) v.data<float>()[i] = std::abs(v.data<float>()[i]);
    std::vector<double> direction = values_of(g), moments = values_of(v);
    double squares = 0;
    for (size_t i = 0; i < direction.size(); ++i) {
      const double x = 0.5 * direction[i];
      moments[i] = 0.75 * moments[i] + 0.25 * (x * x + 1e-30);
      direction[i] = x / std::sqrt(moments[i]);
      squares += direction[i] * direction[i];
    }
    EXPECT_NEAR(vector_direction(bench.runtime, 0.75f, 0.5f, 1e-30f, v.data<float>(), g.data<float>(), kElements),
                squares, 1e-6 * squares);
    EXPECT_LT(relative_error(values_of(g), direction), 1e-6);
    EXPECT_LT(relative_error(values_of(v), moments), 1e-6);
  }
}

}  // namespace
}  // namespace deepflow::testing
