#include "kernels/ops/group_rms_norm.h"

#include "tests/kernels/test_store.h"

#include <cmath>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

constexpr float kEps = 1e-5f;

struct Case {
  std::vector<int64_t> groups;
  int64_t width, columns_behind, rows;
  float gain_offset = 0;
};

int64_t columns_of(const Case& c) {
  int64_t columns = c.columns_behind;
  for (const int64_t n : c.groups) columns += n * c.width;
  return columns;
}

struct GroupNormBench : OpBench {
  GroupNormBench(const Case& c, DType dtype, const RuntimeOptions& options = {})
      : OpBench(dtype, options),
        shape(c),
        gain(store.add_normal("gain", {static_cast<int64_t>(c.groups.size()) * c.width}, Role::kNorm, 1)),
        x(normal("x", {c.rows, columns_of(c)}, dtype, 2)),
        seed(normal("seed", {c.rows, columns_of(c)}, dtype)) {}

  // Over a copy of x, which the op may overwrite.
  Var run(Tape* tape, const Var* x_var = nullptr) {
    ForwardContext context = forward(tape);
    const Var input = x_var ? *x_var : Var{cast(x, compute)};
    return group_rms_norm(context, input, gain, {shape.groups, shape.width}, kEps, shape.gain_offset);
  }
  double loss() {
    const auto y = values_of(run(nullptr).value), s = values_of(seed);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += s[i] * y[i];
    return sum;
  }
  Tensor input_gradient(bool split = false, bool shared_seed = false) {
    store.begin_step();
    return another_pass(split, shared_seed);
  }
  Tensor another_pass(bool split = false, bool shared_seed = false) {
    Tape tape;
    const Var leaf = tape.leaf(cast(x, compute));
    const Var y = run(&tape, &leaf);
    BackwardContext context = backward();
    tape.root(y, {shared_seed ? seed : cast(seed, compute), nullptr}, context);
    if (split) {
      tape.backward_input(context);
      EXPECT_EQ(store.contributions(gain), 0);
      tape.backward_weight(context);
    } else {
      tape.backward(context);
    }
    return tape.take(leaf).value;
  }

  Case shape;
  Pack& gain;
  Tensor x, seed;
};

struct Reference {
  std::vector<double> y, dx, dgain;
};

Reference reference(GroupNormBench& b) {
  const auto width = static_cast<size_t>(b.shape.width), columns = static_cast<size_t>(columns_of(b.shape));
  const auto x = values_of(b.x), dy = values_of(b.seed), gain = values_of(b.store.master(b.gain));
  Reference ref{x, dy, std::vector<double>(gain.size())};
  for (size_t row = 0; row < static_cast<size_t>(b.shape.rows); ++row) {
    size_t at = row * columns;
    for (size_t entry = 0; entry < b.shape.groups.size(); ++entry)
      for (int64_t run = 0; run < b.shape.groups[entry]; ++run, at += width) {
        double squares = 0, product = 0;
        const auto g = [&](size_t j) { return gain[entry * width + j] + static_cast<double>(b.shape.gain_offset); };
        for (size_t j = 0; j < width; ++j) squares += x[at + j] * x[at + j];
        const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(kEps));
        for (size_t j = 0; j < width; ++j) product += dy[at + j] * g(j) * x[at + j] * inverse;
        for (size_t j = 0; j < width; ++j) {
          const double n = x[at + j] * inverse;
          ref.y[at + j] = n * g(j);
          ref.dx[at + j] = inverse * (dy[at + j] * g(j) - n * product / static_cast<double>(width));
          ref.dgain[entry * width + j] += dy[at + j] * n;
        }
      }
  }
  return ref;
}

const Case kQueriesAndKeys{{4, 2}, 12, 24, 7}, kWholeRow{{1}, 133, 0, 5, 1.0f};

TEST(GroupRmsNorm, MatchesTheReferenceForEveryDtypeShapeAndInstructionSet) {
  const Case cases[] = {kQueriesAndKeys, kWholeRow, {{1, 1}, 64, 64, 3}, {{2}, 20, 0, 1}, {{3, 3}, 128, 384, 4}};
  for (const auto& [isa, dtype] : testing::every_isa_and_dtype())
    for (const Case& c : cases) {
      SCOPED_TRACE(std::string(name_of(isa)) + " " + name_of(dtype) + " " + std::to_string(c.width));
      RuntimeOptions options;
      options.cpu_isa = isa;
      GroupNormBench bench(c, dtype, options);
      const Reference ref = reference(bench);
      const double rounding = testing::rounding_tolerance(dtype, 2e-6);
      EXPECT_LT(relative_error(values_of(bench.run(nullptr).value), ref.y), rounding);
      EXPECT_LT(relative_error(values_of(bench.input_gradient()), ref.dx), rounding);
      EXPECT_LT(relative_error(values_of(bench.store.gradient_value(bench.gain)), ref.dgain), 2e-6);
      EXPECT_EQ(bench.store.contributions(bench.gain), 1);
      EXPECT_EQ(bench.store.acquired(bench.gain), 0);
    }
}

TEST(GroupRmsNorm, GradientsMatchDifferenceQuotients) {
  for (const Case& c : {kQueriesAndKeys, Case{{1}, 24, 0, 4, 1.0f}}) {
    GroupNormBench bench(c, DType::kF32);
    const Tensor dx = bench.input_gradient();
    const auto loss = [&] { return bench.loss(); };
    expect_gradient(bench.x, dx, loss, 1e-2, 1e-3);
    expect_gradient(bench.store.master(bench.gain), bench.store.gradient_value(bench.gain), loss, 1e-2, 1e-3);
  }
}

TEST(GroupRmsNorm, IsInPlaceOnlyWhereColumnsStayAsTheyAre) {
  GroupNormBench some(kQueriesAndKeys, DType::kBF16), all(kWholeRow, DType::kBF16);
  const Var x{some.x}, whole{all.x};
  EXPECT_EQ(some.run(nullptr, &x).value.raw(), some.x.raw());
  const auto before = values_of(all.x);
  EXPECT_NE(all.run(nullptr, &whole).value.raw(), all.x.raw());
  EXPECT_EQ(values_of(all.x), before);
}

TEST(GroupRmsNorm, SplitBackwardGivesTheSameBitsAndASecondPassAdds) {
  for (const Case& c : {kQueriesAndKeys, kWholeRow}) {
    GroupNormBench bench(c, DType::kBF16);
    const auto dx = values_of(bench.input_gradient()), gain = values_of(bench.store.gradient_value(bench.gain));
    EXPECT_EQ(values_of(bench.input_gradient(/*split=*/true)), dx);
    EXPECT_EQ(values_of(bench.store.gradient_value(bench.gain)), gain);
    bench.another_pass();
    std::vector<double> twice = gain;
    for (double& g : twice) g *= 2;
    EXPECT_EQ(values_of(bench.store.gradient_value(bench.gain)), twice);
  }
}

TEST(GroupRmsNorm, GradientThatOthersHoldIsNotOverwritten) {
  GroupNormBench bench(kQueriesAndKeys, DType::kF32);
  const auto seed = values_of(bench.seed), dx = values_of(bench.input_gradient());
  EXPECT_EQ(values_of(bench.input_gradient(false, /*shared_seed=*/true)), dx);
  EXPECT_EQ(values_of(bench.seed), seed);
}

TEST(GroupRmsNorm, ZeroRowsContributeZeroGradients) {
  GroupNormBench bench({{2, 1}, 8, 8, 0}, DType::kF32);
  bench.input_gradient();
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.gain)), std::vector<double>(16, 0.0));
  EXPECT_EQ(bench.store.contributions(bench.gain), 1);
}

}  // namespace
}  // namespace deepflow
