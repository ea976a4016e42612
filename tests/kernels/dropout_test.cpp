#include "kernels/ops/dropout.h"

#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace deepflow {
namespace {

using testing::OpBench;
using testing::relative_error;
using testing::values_of;

struct DropoutBench : OpBench {
  DropoutBench(DType dtype, int64_t num_rows, int64_t cols, const RuntimeOptions& options = {})
      : OpBench(dtype, options), x(normal("x", {num_rows, cols}, dtype)), row_ids(empty({num_rows}, DType::kI64)) {
    for (int64_t r = 0; r < num_rows; ++r) row_ids.data<int64_t>()[r] = (int64_t{1} << 33) + 3 * r;
  }
  ForwardContext context(Tape* tape, int64_t step = 5) {
    ForwardContext context = forward(tape);
    context.rows.row_ids = row_ids;
    context.seed = 11;
    context.step = step;
    return context;
  }
  std::vector<double> run(float p, int64_t step = 5, const char* site = "layers.0") {
    ForwardContext forward = context(nullptr, step);
    return values_of(dropout(forward, {x}, p, site).value);
  }
  Tensor x, row_ids;
};

TEST(Dropout, MaskIsTheRandomNumberOfRowAndColumn) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const DType dtype : testing::kComputeDtypes)
      for (const int64_t cols : {1, 20, 64, 133}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name_of(isa), name_of(dtype), cols));
        RuntimeOptions options;
        options.cpu_isa = isa;
        DropoutBench bench(dtype, 6, cols, options);
        const auto y = bench.run(0.3f), x = values_of(bench.x);
        const RandomSite site = random_site(11, "layers.0", 5);
        std::vector<double> expected;
        for (int64_t r = 0; r < 6; ++r)
          for (int64_t c = 0; c < cols; ++c) {
            const bool kept = random_uniform(site, bench.row_ids.data<int64_t>()[r], c) >= 0.3f;
            expected.push_back(kept ? x[static_cast<size_t>(r * cols + c)] / 0.7 : 0);
            ASSERT_EQ(y[static_cast<size_t>(r * cols + c)] != 0, kept) << r << " " << c;
          }
        EXPECT_LT(relative_error(y, expected), testing::rounding_tolerance(dtype, 2e-7));
      }
}

TEST(Dropout, KeepsTheExpectedShareAndTheMean) {
  DropoutBench bench(DType::kF32, 500, 200);
  fill(bench.runtime, bench.x, 1);
  const auto y = bench.run(0.25f);
  double sum = 0, kept = 0;
  for (const double v : y) {
    sum += v;
    kept += v != 0;
  }
  const double n = static_cast<double>(y.size());
  EXPECT_NEAR(kept / n, 0.75, 5 * std::sqrt(0.75 * 0.25 / n));
  EXPECT_NEAR(sum / n, 1, 5 * std::sqrt(0.25 / 0.75 / n));
}

TEST(Dropout, OtherStepsAndSitesDrawOtherMasks) {
  DropoutBench bench(DType::kF32, 4, 64);
  const auto y = bench.run(0.5f);
  EXPECT_EQ(bench.run(0.5f), y);
  EXPECT_NE(bench.run(0.5f, 6), y);
  EXPECT_NE(bench.run(0.5f, 5, "layers.1"), y);
}

TEST(Dropout, RowsKeepTheirMaskWhereverTheyStand) {
  DropoutBench bench(DType::kF32, 4, 64);
  fill(bench.runtime, bench.x, 1);
  const auto y = bench.run(0.5f);
  std::swap(bench.row_ids.data<int64_t>()[0], bench.row_ids.data<int64_t>()[3]);
  const auto moved = bench.run(0.5f);
  EXPECT_TRUE(std::equal(y.begin(), y.begin() + 64, moved.begin() + 3 * 64));
  EXPECT_TRUE(std::equal(y.begin() + 64, y.begin() + 128, moved.begin() + 64));
}

TEST(Dropout, BackwardAppliesTheSameMask) {
  for (const DType dtype : testing::kComputeDtypes) {
    DropoutBench bench(dtype, 5, 50);
    Tensor ones = bench.empty(bench.x.shape(), dtype);
    fill(bench.runtime, ones, 1);
    Tape tape;
    ForwardContext forward = bench.context(&tape);
    const Var leaf = tape.leaf(bench.x);
    const Var y = dropout(forward, leaf, 0.5f, "layers.0");
    BackwardContext backward = bench.backward();
    tape.root(y, {ones, nullptr}, backward);
    tape.backward(backward);
    const auto dx = values_of(tape.take(leaf).value), value = values_of(y.value);
    for (size_t i = 0; i < dx.size(); ++i) EXPECT_EQ(dx[i], value[i] != 0 ? 2 : 0);
    EXPECT_EQ(values_of(ones), std::vector<double>(250, 1.0)) << "others hold the gradient";
  }
}

TEST(Dropout, IsTheIdentityOutsideTrainingAndWithoutDropping) {
  DropoutBench bench(DType::kF32, 3, 10);
  ForwardContext context = bench.context(nullptr);
  EXPECT_EQ(dropout(context, {bench.x}, 0, "a").value.raw(), bench.x.raw());
  context.training = false;
  EXPECT_EQ(dropout(context, {bench.x}, 0.5f, "a").value.raw(), bench.x.raw());
}

TEST(Dropout, DroppedElementsAreZeroEvenWhereTheInputIsNot) {
  DropoutBench bench(DType::kF32, 2, 64);
  fill(bench.runtime, bench.x, std::numeric_limits<float>::infinity());
  for (const double v : bench.run(0.5f)) EXPECT_TRUE(v == 0 || std::isinf(v)) << v;
}

TEST(Dropout, ZeroRowsPass) {
  DropoutBench bench(DType::kF32, 0, 16);
  EXPECT_TRUE(bench.run(0.5f).empty());
}

}  // namespace
}  // namespace deepflow
