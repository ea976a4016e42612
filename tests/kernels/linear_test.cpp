#include "kernels/ops/linear.h"

#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

constexpr int64_t kRows = 37, kIn = 50, kOut = 70;

struct Result {
  std::vector<double> y, dx, dw, db;
};

// sum(seed * y) is the loss.
Result run(OpBench& bench, bool with_bias, bool split_backward, int passes = 1) {
  const DType dtype = bench.compute;
  Pack& weight = bench.store.add_normal("w", {kOut, kIn}, Role::kMatrix, 0.3f);
  Pack* bias = with_bias ? &bench.store.add_normal("b", {kOut}, Role::kBias, 0.3f) : nullptr;
  Result result;
  for (int pass = 0; pass < passes; ++pass) {
    Tape tape;
    ForwardContext forward = bench.forward(&tape);
    BackwardContext backward = bench.backward();
    const Var x = tape.leaf(bench.normal("x", {kRows, kIn}, dtype));
    const Var y = linear(forward, x, weight, bias);
    tape.root(y, {bench.normal("seed", {kRows, kOut}, dtype), nullptr}, backward);
    if (split_backward) {
      tape.backward_input(backward);
      EXPECT_EQ(bench.store.contributions(weight), pass);
      tape.backward_weight(backward);
    } else {
      tape.backward(backward);
    }
    result.y = values_of(y.value);
    result.dx = values_of(tape.take(x).value);
    EXPECT_EQ(bench.store.contributions(weight), pass + 1);
    EXPECT_EQ(bench.store.acquired(weight), 0);
    if (bias) {
      EXPECT_EQ(bench.store.contributions(*bias), pass + 1);
    }
  }
  result.dw = values_of(bench.store.gradient_value(weight));
  if (bias) result.db = values_of(bench.store.gradient_value(*bias));
  return result;
}

TEST(Linear, GradientsMatchFiniteDifferences) {
  OpBench bench;
  Pack& weight = bench.store.add_normal("w", {kOut, kIn}, Role::kMatrix, 0.3f);
  Pack& bias = bench.store.add_normal("b", {kOut}, Role::kBias, 0.3f);
  Tensor x = bench.normal("x", {kRows, kIn}, DType::kF32);
  const Tensor seed = bench.normal("seed", {kRows, kOut}, DType::kF32);
  const auto loss = [&] {
    ForwardContext context = bench.forward(nullptr);
    const std::vector<double> y = values_of(linear(context, {x}, weight, &bias).value), s = values_of(seed);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += y[i] * s[i];
    return sum;
  };
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var leaf = tape.leaf(x);
  const Var y = linear(forward, leaf, weight, &bias);
  tape.root(y, {bench.cast(seed, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  expect_gradient(x, tape.take(leaf).value, loss, 0.05, 1e-4);
  expect_gradient(bench.store.master(weight), bench.store.gradient_value(weight), loss, 0.05, 1e-4);
  expect_gradient(bench.store.master(bias), bench.store.gradient_value(bias), loss, 0.05, 1e-4);
}

TEST(Linear, SplitBackwardEqualsCombined) {
  for (const DType dtype : kComputeDtypes) {
    OpBench a(dtype), b(dtype);
    const Result combined = run(a, true, false), split = run(b, true, true);
    EXPECT_EQ(combined.dx, split.dx);
    EXPECT_EQ(combined.dw, split.dw);
    EXPECT_EQ(combined.db, split.db);
  }
}

TEST(Linear, SecondPassOfAStepAccumulates) {
  OpBench once(DType::kF32), twice(DType::kF32);
  Result one = run(once, true, false), two = run(twice, true, false, 2);
  for (double& v : one.dw) v *= 2;
  for (double& v : one.db) v *= 2;
  EXPECT_LT(relative_error(two.dw, one.dw), 1e-6);
  EXPECT_LT(relative_error(two.db, one.db), 1e-6);
}

TEST(Linear, HalfPrecisionFollowsF32OnEveryInstructionSet) {
  OpBench exact(DType::kF32);
  const Result expected = run(exact, true, false);
  for (const CpuIsa isa : runnable_isas())
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(std::string(name_of(isa)) + " " + name_of(dtype));
      OpBench bench(dtype, {.cpu_isa = isa});
      const Result got = run(bench, true, false);
      const double tolerance = rounding_tolerance(dtype, 0, 0.01);
      EXPECT_LT(relative_error(got.y, expected.y), tolerance);
      EXPECT_LT(relative_error(got.dx, expected.dx), tolerance);
      EXPECT_LT(relative_error(got.dw, expected.dw), tolerance);
      EXPECT_LT(relative_error(got.db, expected.db), tolerance);
    }
}

TEST(Linear, Int8ProductsFollowBf16OnesOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench plain(DType::kBF16, {.cpu_isa = isa}), bench(DType::kBF16, {.cpu_isa = isa});
    bench.products = ProductPrecision::kInt8;
    const Result expected = run(plain, true, false), got = run(bench, true, true);
    EXPECT_LT(relative_error(got.y, expected.y), 0.02) << name_of(isa);
    EXPECT_LT(relative_error(got.dx, expected.dx), 0.02) << name_of(isa);
    EXPECT_GT(relative_error(got.y, expected.y), 0.001) << "no int8 in it";
    EXPECT_GT(relative_error(got.dx, expected.dx), 0.001) << "no int8 in it";
    EXPECT_EQ(got.dw, expected.dw) << name_of(isa);
    EXPECT_EQ(got.db, expected.db) << name_of(isa);
  }
}

TEST(Linear, AConstantInputNeedsNoInputGradient) {
  OpBench bench;
  Pack& weight = bench.store.add_normal("w", {kOut, kIn}, Role::kMatrix, 0.3f);
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var y = linear(forward, {bench.normal("x", {kRows, kIn}, DType::kF32)}, weight, nullptr);
  tape.root(y, {bench.normal("seed", {kRows, kOut}, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(bench.store.contributions(weight), 1);
  EXPECT_TRUE(all_finite(bench.runtime, bench.store.gradient_value(weight)));
}

TEST(Linear, NoRowsStillContributeAZeroGradient) {
  OpBench bench(DType::kBF16);
  Pack& weight = bench.store.add_normal("w", {kOut, kIn}, Role::kMatrix, 0.3f);
  Tape tape;
  ForwardContext forward = bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var x = tape.leaf(bench.empty({0, kIn}, DType::kBF16));
  const Var y = linear(forward, x, weight, nullptr);
  tape.root(y, {bench.empty({0, kOut}, DType::kBF16), nullptr}, backward);
  tape.backward(backward);
  EXPECT_EQ(bench.store.contributions(weight), 1);
  EXPECT_EQ(sum_squares(bench.runtime, bench.store.gradient_value(weight)), 0);
}

}  // namespace
}  // namespace deepflow::testing
