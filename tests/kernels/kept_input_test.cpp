#include "kernels/ops/kept_input.h"

#include "kernels/ops/activation.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/norm.h"
#include "tests/kernels/test_store.h"

namespace deepflow::testing {
namespace {

constexpr int64_t kRows = 37, kCols = 74;

struct SelectiveBench : OpBench {
  explicit SelectiveBench(const IsaAndDtype& c) : OpBench(c.dtype, RuntimeOptions{.threads = 2, .cpu_isa = c.isa}) {}
  ForwardContext selective(Tape* tape) {
    ForwardContext context = forward(tape);
    context.selective = true;
    return context;
  }
};

// Every op that leaves a recipe, each on inputs of its own; `delta` for the norms.
std::vector<Var> every_cheap_output(SelectiveBench& bench, ForwardContext& context, Tape& tape) {
  Pack& gain = bench.store.add_normal("gain", {kCols}, Role::kNorm, 1);
  Pack& bias = bench.store.add_normal("bias", {kCols}, Role::kBias, 1);
  const auto x = [&] { return tape.leaf(bench.normal("x", {kRows, kCols}, DType::kF32)); };
  const auto u = [&] { return tape.leaf(bench.normal("u", {kRows, kCols}, bench.compute)); };
  return {rms_norm(context, x(), u(), gain, 1e-5f).normed,
          rms_norm(context, x(), std::nullopt, gain, 1e-5f).normed,
          layer_norm(context, x(), u(), gain, &bias, 1e-5f).normed,
          layer_norm(context, x(), std::nullopt, gain, nullptr, 1e-5f).normed,
          gelu(context, u(), GeluKind::kTanh),
          gelu(context, u(), GeluKind::kExact),
          swiglu(context, u())};
}

class KeptInputOf : public ::testing::TestWithParam<IsaAndDtype> {};
INSTANTIATE_TEST_SUITE_P(All, KeptInputOf, ::testing::ValuesIn(every_isa_and_dtype()));

TEST_P(KeptInputOf, IsMadeAgainBitForBit) {
  SelectiveBench bench(GetParam());
  Tape tape;
  ForwardContext context = bench.selective(&tape);
  for (const Var& y : every_cheap_output(bench, context, tape)) {
    ASSERT_TRUE(y.recipe);
    const KeptInput kept(y);
    EXPECT_EQ(kept.rows(), kRows);
    EXPECT_EQ(kept.cols(), y.value.cols());
    EXPECT_EQ(kept.dtype(), bench.compute);
    const Tensor again = kept.get(bench.runtime);
    EXPECT_NE(again.raw(), y.value.raw());
    EXPECT_EQ(values_of(again), values_of(y.value));
  }
}

TEST(KeptInput, IsTheTensorWhereNothingIsToBeMadeAgain) {
  SelectiveBench bench({CpuIsa::kAvx2, DType::kF32});
  Tape tape;
  ForwardContext plain = bench.forward(&tape);
  for (const Var& y : every_cheap_output(bench, plain, tape)) {
    EXPECT_FALSE(y.recipe);
    EXPECT_EQ(KeptInput(y).get(bench.runtime).raw(), y.value.raw());
  }
}

TEST(KeptInput, LeavesNoRecipeWithoutATape) {
  SelectiveBench bench({CpuIsa::kAvx2, DType::kF32});
  Tape inputs;
  ForwardContext quiet = bench.selective(nullptr);
  for (const Var& y : every_cheap_output(bench, quiet, inputs)) EXPECT_FALSE(y.recipe);
}

// What a norm needs of its parameters is copied: they may be gone, or overwritten, when it runs again.
TEST(KeptInput, ReadsNoParameters) {
  SelectiveBench bench({CpuIsa::kAvx2, DType::kF32});
  Tape tape;
  ForwardContext context = bench.selective(&tape);
  Pack& gain = bench.store.add_normal("gain", {kCols}, Role::kNorm, 1);
  const Var x = tape.leaf(bench.normal("x", {kRows, kCols}, DType::kF32));
  const Var y = rms_norm(context, x, std::nullopt, gain, 1e-5f).normed;
  fill(bench.runtime, bench.store.master(gain), 7);
  EXPECT_EQ(values_of(KeptInput(y).get(bench.runtime)), values_of(y.value));
}

struct LinearResult {
  std::vector<double> dw, du;
  int64_t kept = 0;  // bytes that forward left in use
};

// swiglu and linear, and a second linear that reads the same value.
LinearResult run(SelectiveBench& bench, bool selective, bool split) {
  Pack& weight = bench.store.add_normal("w", {20, kCols / 2}, Role::kMatrix, 0.3f);
  Tape tape;
  ForwardContext forward = selective ? bench.selective(&tape) : bench.forward(&tape);
  BackwardContext backward = bench.backward();
  const Var u = tape.leaf(bench.normal("u", {kRows, kCols}, bench.compute));
  LinearResult result;
  {
    const int64_t before = bench.runtime.memory().stats().in_use;
    const Var y = swiglu(forward, u);
    const Var a = linear(forward, y, weight, nullptr), b = linear(forward, y, weight, nullptr);
    result.kept = -before - static_cast<int64_t>(a.value.num_bytes() + b.value.num_bytes());
    for (const Var& out : {a, b}) tape.root(out, {bench.normal("seed", {kRows, 20}, bench.compute), nullptr}, backward);
  }
  result.kept += bench.runtime.memory().stats().in_use;
  if (split) {
    tape.backward_input(backward);
    tape.backward_weight(backward);
  } else {
    tape.backward(backward);
  }
  result.dw = values_of(bench.store.gradient_value(weight));
  result.du = values_of(tape.take(u).value);
  return result;
}

TEST_P(KeptInputOf, GivesLinearTheSameGradientsForLessMemory) {
  SelectiveBench plain(GetParam());
  const LinearResult expected = run(plain, false, false);
  for (const bool split : {false, true}) {
    SelectiveBench bench(GetParam());
    const LinearResult result = run(bench, true, split);
    EXPECT_EQ(result.dw, expected.dw);
    EXPECT_EQ(result.du, expected.du);
    const auto output = kRows * kCols / 2 * static_cast<int64_t>(size_of(bench.compute));
    EXPECT_NEAR(static_cast<double>(expected.kept - result.kept), static_cast<double>(output), 64);
  }
}

}  // namespace
}  // namespace deepflow::testing
