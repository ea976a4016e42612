#include "kernels/ops/matmul.h"

#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

struct Extents {
  int64_t m, n, k;
};
const Extents kExtents[] = {{1, 1, 1},      {1, 128, 64},  {3, 65, 33},   {64, 64, 64},
                            {100, 100, 50}, {257, 96, 31}, {33, 130, 257}};

std::vector<double> reference(const Tensor& a, const Tensor& b, const Extents& e, bool transpose_a, bool transpose_b) {
  const std::vector<double> x = values_of(a), y = values_of(b);
  std::vector<double> c(static_cast<size_t>(e.m * e.n));
  for (int64_t i = 0; i < e.m; ++i)
    for (int64_t j = 0; j < e.n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < e.k; ++k)
        sum += x[static_cast<size_t>(transpose_a ? k * e.m + i : i * e.k + k)] *
               y[static_cast<size_t>(transpose_b ? j * e.k + k : k * e.n + j)];
      c[static_cast<size_t>(i * e.n + j)] = sum;
    }
  return c;
}

// Rounding of the result to its dtype is the largest error there may be.
double tolerance(DType c) { return rounding_tolerance(c, 1e-6); }

using Case = IsaAndDtype;
OpBench bench_of(const Case& c, int threads = 2) { return OpBench(c.dtype, {.threads = threads, .cpu_isa = c.isa}); }

class Matmul : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Matmul, ::testing::ValuesIn(every_isa_and_dtype()), [](const auto& c) {
  return std::string(name_of(c.param.isa)) + "_" + name_of(c.param.dtype);
});

TEST_P(Matmul, MatchesDoubleReferenceInEveryForm) {
  OpBench bench = bench_of(GetParam());
  for (const Extents& e : kExtents)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const DType c_dtype : {DType::kF32, GetParam().dtype}) {
          const Tensor a = bench.normal("a", ta ? Shape{e.k, e.m} : Shape{e.m, e.k}, GetParam().dtype);
          const Tensor b = bench.normal("b", tb ? Shape{e.n, e.k} : Shape{e.k, e.n}, GetParam().dtype);
          Tensor c = bench.empty({e.m, e.n}, c_dtype);
          matmul(bench.runtime, a, b, c, {.transpose_a = ta, .transpose_b = tb});
          EXPECT_LT(relative_error(values_of(c), reference(a, b, e, ta, tb)), tolerance(c_dtype))
              << e.m << " " << e.n << " " << e.k << " " << ta << tb;
        }
}

TEST_P(Matmul, PackedWeightsServeAnyNumberOfRows) {
  OpBench bench = bench_of(GetParam());
  for (const Extents& e : kExtents) {
    const Tensor w = bench.normal("w", {e.n, e.k}, DType::kF32), b = bench.normal("bias", {e.n}, DType::kF32);
    const Tensor rounded = bench.cast(w, GetParam().dtype);
    Tensor packs[2];
    for (const Form form : {Form::kForward, Form::kInputGrad}) {
      Tensor& packed = packs[form == Form::kInputGrad];
      const size_t bytes = packed_weight_bytes(bench.runtime, GetParam().dtype, e.n, e.k, form);
      packed = bench.empty({static_cast<int64_t>(bytes)}, DType::kU8);
      pack_weight(bench.runtime, w, GetParam().dtype, form, packed);
    }
    for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{17}, e.m, int64_t{600}}) {
      const Tensor x = bench.normal("x", {rows, e.k}, GetParam().dtype);
      const Tensor dy = bench.normal("dy", {rows, e.n}, GetParam().dtype);
      for (const bool with_bias : {false, true}) {
        Tensor y = bench.empty({rows, e.n}, DType::kF32);
        matmul_forward(bench.runtime, x, packs[0], e.n, with_bias ? &b : nullptr, y);
        std::vector<double> expected = reference(x, rounded, {rows, e.n, e.k}, false, true);
        for (size_t i = 0; with_bias && i < expected.size(); ++i)
          expected[i] += static_cast<double>(b.data<float>()[i % static_cast<size_t>(e.n)]);
        EXPECT_LT(relative_error(values_of(y), expected), 1e-6) << e.m << " " << e.n << " " << e.k << " rows " << rows;
      }
      Tensor dx = bench.empty({rows, e.k}, GetParam().dtype);
      matmul_input_grad(bench.runtime, dy, packs[1], e.k, dx);
      EXPECT_LT(relative_error(values_of(dx), reference(dy, rounded, {rows, e.k, e.n}, false, false)),
                tolerance(GetParam().dtype));
    }
  }
}

TEST_P(Matmul, RowStridesAreHonouredAndNothingElseIsWritten) {
  OpBench bench = bench_of(GetParam());
  const Extents e{70, 48, 96};
  const Tensor wide_x = bench.normal("x", {e.m, e.k + 24}, GetParam().dtype);
  const Tensor x = wide_x.column_range(8, 8 + e.k), w = bench.normal("w", {e.n, e.k}, DType::kF32);
  const Tensor b = bench.cast(w, GetParam().dtype);
  Tensor wide_y = bench.empty({e.m, e.n + 16}, GetParam().dtype);
  fill(bench.runtime, wide_y, 7);
  Tensor y = wide_y.column_range(16, 16 + e.n);
  const std::vector<double> expected = reference(x, b, e, false, true);

  matmul(bench.runtime, x, b, y, {.transpose_b = true});
  EXPECT_LT(relative_error(values_of(y), expected), tolerance(GetParam().dtype));
  fill(bench.runtime, y, 0);
  const auto bytes = packed_weight_bytes(bench.runtime, GetParam().dtype, e.n, e.k, Form::kForward);
  Tensor packed = bench.empty({static_cast<int64_t>(bytes)}, DType::kU8);
  pack_weight(bench.runtime, w, GetParam().dtype, Form::kForward, packed);
  matmul_forward(bench.runtime, x, packed, e.n, nullptr, y);
  EXPECT_LT(relative_error(values_of(y), expected), tolerance(GetParam().dtype));
  const std::vector<double> all = values_of(wide_y);
  for (int64_t r = 0; r < e.m; ++r)
    for (int64_t c = 0; c < 16; ++c) EXPECT_EQ(all[static_cast<size_t>(r * wide_y.ld() + c)], 7);
}

TEST_P(Matmul, WeightGradientOverwritesThenAccumulates) {
  OpBench bench = bench_of(GetParam());
  for (const Extents& e : kExtents) {  // n = out, k = in, m = rows
    const Tensor wide = bench.normal("x", {e.m, e.k + 8}, GetParam().dtype);
    const Tensor dy = bench.normal("dy", {e.m, e.n}, GetParam().dtype), x = wide.column_range(8, 8 + e.k);
    GradientTarget dw{bench.empty({e.n, e.k}, DType::kF32), false}, db{bench.empty({e.n}, DType::kF32), false};
    fill(bench.runtime, dw.value, std::nanf(""));
    fill(bench.runtime, db.value, std::nanf(""));
    std::vector<double> expected_dw = reference(dy, x, {e.n, e.k, e.m}, true, false);
    std::vector<double> expected_db(static_cast<size_t>(e.n));
    const std::vector<double> g = values_of(dy);
    for (size_t i = 0; i < g.size(); ++i) expected_db[i % static_cast<size_t>(e.n)] += g[i];
    for (const double times : {1.0, 2.0}) {
      matmul_weight_grad(bench.runtime, dy, x, dw);
      column_sums(bench.runtime, dy, db);
      dw.accumulate = db.accumulate = true;
      std::vector<double> w = expected_dw, b = expected_db;
      for (double& v : w) v *= times;
      for (double& v : b) v *= times;
      EXPECT_LT(relative_error(values_of(dw.value), w), 1e-6) << e.n << " " << e.k << " " << e.m;
      EXPECT_LT(relative_error(values_of(db.value), b), 1e-6) << e.n << " " << e.m;
    }
  }
}

TEST_P(Matmul, NoRowsMeanAZeroWeightGradientOnOverwriteAndNoChangeOtherwise) {
  OpBench bench = bench_of(GetParam());
  const Tensor dy = bench.empty({0, 20}, GetParam().dtype), x = bench.empty({0, 12}, GetParam().dtype);
  GradientTarget dw{bench.empty({20, 12}, DType::kF32), true}, db{bench.empty({20}, DType::kF32), true};
  fill(bench.runtime, dw.value, 3);
  fill(bench.runtime, db.value, 3);
  for (const double expected : {3.0, 0.0}) {
    matmul_weight_grad(bench.runtime, dy, x, dw);
    column_sums(bench.runtime, dy, db);
    for (const double v : values_of(dw.value)) EXPECT_EQ(v, expected);
    for (const double v : values_of(db.value)) EXPECT_EQ(v, expected);
    dw.accumulate = db.accumulate = false;
  }
}

TEST(MatmulCache, ResultsAreTheSameBitsRunAfterRun) {
  OpBench bench(DType::kBF16, {.threads = 2});
  const Tensor dy = bench.normal("dy", {500, 192}, DType::kBF16), x = bench.normal("x", {500, 96}, DType::kBF16);
  std::vector<double> first;
  for (int run = 0; run < 3; ++run) {
    GradientTarget dw{bench.empty({192, 96}, DType::kF32), false};
    matmul_weight_grad(bench.runtime, dy, x, dw);
    if (run == 0) first = values_of(dw.value);
    EXPECT_EQ(values_of(dw.value), first);
  }
}

TEST(ColumnSums, AreTheSameBitsForAnyNumberOfThreads) {
  std::vector<double> sums[2];
  for (const int threads : {1, 2}) {
    OpBench bench(DType::kF32, {.threads = threads});
    GradientTarget db{bench.empty({700}, DType::kF32), false};
    column_sums(bench.runtime, bench.normal("dy", {333, 700}, DType::kF32), db);
    sums[threads - 1] = values_of(db.value);
  }
  EXPECT_EQ(sums[0], sums[1]);
}

}  // namespace
}  // namespace deepflow::testing
