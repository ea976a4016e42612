#include "kernels/ops/norm.h"

#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <cmath>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

constexpr float kEps = 1e-5f;

struct Case {
  bool layer;  // layer norm or RMS norm
  bool delta, bias;
  int64_t rows, cols;
  float gain_offset = 0;  // RMS norm
};

// One norm over normal inputs with everything a test wants to vary or read.
struct NormBench : OpBench {
  NormBench(const Case& c, DType dtype, const RuntimeOptions& options = {})
      : OpBench(dtype, options),
        shape(c),
        gain(store.add_normal("gain", {c.cols}, Role::kNorm, 1)),
        bias(store.add_normal("bias", {c.cols}, Role::kBias, 1)),
        x(normal("x", {c.rows, c.cols}, DType::kF32, 2)),
        delta(normal("delta", {c.rows, c.cols}, dtype)),
        seed_r(normal("seed_r", {c.rows, c.cols}, DType::kF32)),
        seed_y(normal("seed_y", {c.rows, c.cols}, dtype)) {
    for (int64_t j = 0; j < x.num_elements(); ++j) x.data<float>()[j] += 0.5f;
  }

  NormResult run(Tape* tape, const Var& x_var, const Var& delta_var) {
    ForwardContext context = forward(tape);
    const std::optional<Var> d = shape.delta ? std::optional<Var>(delta_var) : std::nullopt;
    if (shape.layer) return layer_norm(context, x_var, d, gain, shape.bias ? &bias : nullptr, kEps);
    return rms_norm(context, x_var, d, gain, kEps, shape.gain_offset);
  }

  // dot(seed_r, r) + dot(seed_y, y)
  double loss() {
    const NormResult result = run(nullptr, {x}, {delta});
    const auto r = values_of(result.residual.value), y = values_of(result.normed.value);
    const auto sr = values_of(seed_r), sy = values_of(seed_y);
    double sum = 0;
    for (size_t i = 0; i < r.size(); ++i) sum += sr[i] * r[i] + sy[i] * y[i];
    return sum;
  }

  struct Gradients {
    Tensor x, delta;
  };
  // split: all input gradients before the first weight gradient.
  Gradients gradients(bool split = false) {
    store.begin_step();
    Tape tape;
    const Var xv = tape.leaf(x), dv = tape.leaf(delta);
    const NormResult result = run(&tape, xv, dv);
    BackwardContext context = backward();
    Tensor dr = empty(seed_r.shape(), DType::kF32), dy = empty(seed_y.shape(), compute);
    copy(runtime, seed_r, dr);
    copy(runtime, seed_y, dy);
    tape.root(result.residual, {dr, nullptr}, context);
    tape.root(result.normed, {dy, nullptr}, context);
    if (split) {
      tape.backward_input(context);
      EXPECT_EQ(store.contributions(gain), 0);
      tape.backward_weight(context);
    } else {
      tape.backward(context);
    }
    return {tape.take(xv).value, tape.take(dv).value};
  }

  Case shape;
  Pack &gain, &bias;
  Tensor x, delta, seed_r, seed_y;
};

struct Reference {
  std::vector<double> r, y, dx, dgain, dbias;
};

Reference reference(NormBench& b) {
  const size_t rows = static_cast<size_t>(b.shape.rows), n = static_cast<size_t>(b.shape.cols);
  const auto x = values_of(b.x), delta = values_of(b.delta), dr = values_of(b.seed_r), dy = values_of(b.seed_y);
  auto gain = values_of(b.store.master(b.gain));
  for (double& g : gain) g += static_cast<double>(b.shape.gain_offset);
  const auto bias = values_of(b.store.master(b.bias));
  Reference ref;
  ref.dgain.resize(n);
  ref.dbias.resize(n);
  for (size_t i = 0; i < rows; ++i) {
    std::vector<double> r(n), norm(n);
    double mean = 0, variance = 0, sum = 0, product = 0;
    for (size_t j = 0; j < n; ++j) r[j] = x[i * n + j] + (b.shape.delta ? delta[i * n + j] : 0);
    if (b.shape.layer)
      for (size_t j = 0; j < n; ++j) mean += r[j] / static_cast<double>(n);
    for (size_t j = 0; j < n; ++j) variance += (r[j] - mean) * (r[j] - mean) / static_cast<double>(n);
    const double inverse = 1 / std::sqrt(variance + static_cast<double>(kEps));
    for (size_t j = 0; j < n; ++j) {
      norm[j] = (r[j] - mean) * inverse;
      const double g = dy[i * n + j], dn = g * gain[j];
      ref.r.push_back(r[j]);
      ref.y.push_back(norm[j] * gain[j] + (b.shape.layer && b.shape.bias ? bias[j] : 0));
      ref.dgain[j] += g * norm[j];
      ref.dbias[j] += g;
      sum += dn / static_cast<double>(n);
      product += dn * norm[j] / static_cast<double>(n);
    }
    for (size_t j = 0; j < n; ++j) {
      const double dn = dy[i * n + j] * gain[j] - (b.shape.layer ? sum : 0) - norm[j] * product;
      ref.dx.push_back(dr[i * n + j] + dn * inverse);
    }
  }
  return ref;
}

void expect_matches_reference(const Case& c, DType dtype, const RuntimeOptions& options) {
  SCOPED_TRACE(fmt::format("{} {} delta {} bias {} [{}, {}]", c.layer ? "layer" : "rms", name_of(dtype), c.delta,
                           c.bias, c.rows, c.cols));
  NormBench bench(c, dtype, options);
  const Reference ref = reference(bench);
  const NormResult result = bench.run(nullptr, {bench.x}, {bench.delta});
  const double rounding = testing::rounding_tolerance(dtype, 2e-6);
  EXPECT_LT(relative_error(values_of(result.residual.value), ref.r), 2e-7);
  EXPECT_LT(relative_error(values_of(result.normed.value), ref.y), rounding);
  const auto grads = bench.gradients();
  EXPECT_LT(relative_error(values_of(grads.x), ref.dx), 2e-6);
  if (c.delta) {
    EXPECT_LT(relative_error(values_of(grads.delta), ref.dx), rounding);
  }
  EXPECT_LT(relative_error(values_of(bench.store.gradient_value(bench.gain)), ref.dgain), 2e-6);
  EXPECT_EQ(bench.store.contributions(bench.gain), 1);
  if (c.layer && c.bias) {
    EXPECT_LT(relative_error(values_of(bench.store.gradient_value(bench.bias)), ref.dbias), 2e-6);
    EXPECT_EQ(bench.store.contributions(bench.bias), 1);
  }
  EXPECT_EQ(bench.store.acquired(bench.gain), 0);
}

TEST(Norm, MatchesTheReferenceForEveryDtypeShapeAndInstructionSet) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    SCOPED_TRACE(name_of(isa));
    RuntimeOptions options;
    options.cpu_isa = isa;
    for (const DType dtype : testing::kComputeDtypes)
      for (const bool layer : {false, true})
        for (const int64_t cols : {8, 20, 64, 133, 768})
          for (const int64_t rows : {1, 7}) expect_matches_reference({layer, true, true, rows, cols}, dtype, options);
  }
}

TEST(Norm, AddsAnOffsetToTheGain) {
  for (const auto& [isa, dtype] : testing::every_isa_and_dtype()) {
    RuntimeOptions options;
    options.cpu_isa = isa;
    expect_matches_reference({false, true, false, 7, 133, 1.0f}, dtype, options);
    expect_matches_reference({false, false, false, 7, 133, 1.0f}, dtype, options);
  }
}

TEST(Norm, WorksWithoutDeltaAndWithoutBias) {
  for (const bool layer : {false, true}) {
    expect_matches_reference({layer, false, true, 5, 48}, DType::kF32, {});
    expect_matches_reference({layer, true, false, 5, 48}, DType::kBF16, {});
  }
}

TEST(Norm, GradientsMatchDifferenceQuotients) {
  for (const bool layer : {false, true}) {
    SCOPED_TRACE(layer);
    RuntimeOptions options;
    options.threads = 1;
    NormBench bench({layer, true, true, 4, 24}, DType::kF32, options);
    const auto grads = bench.gradients();
    const auto loss = [&] { return bench.loss(); };
    expect_gradient(bench.x, grads.x, loss, 1e-2, 1e-3);
    expect_gradient(bench.delta, grads.delta, loss, 1e-2, 1e-3);
    expect_gradient(bench.store.master(bench.gain), bench.store.gradient_value(bench.gain), loss, 1e-2, 1e-3);
    if (layer)
      expect_gradient(bench.store.master(bench.bias), bench.store.gradient_value(bench.bias), loss, 1e-2, 1e-3);
  }
}

TEST(Norm, SplitBackwardAndSecondRunGiveTheSameBits) {
  for (const bool layer : {false, true}) {
    NormBench bench({layer, true, true, 37, 96}, DType::kBF16);
    const auto first = bench.gradients();
    const auto gain = values_of(bench.store.gradient_value(bench.gain));
    const auto second = bench.gradients(/*split=*/true);
    EXPECT_EQ(values_of(first.x), values_of(second.x));
    EXPECT_EQ(values_of(first.delta), values_of(second.delta));
    EXPECT_EQ(gain, values_of(bench.store.gradient_value(bench.gain)));
  }
}

TEST(Norm, SecondMicroBatchAddsToTheGradients) {
  NormBench bench({true, true, true, 6, 32}, DType::kF32);
  bench.gradients();
  auto twice = values_of(bench.store.gradient_value(bench.gain));
  for (double& g : twice) g *= 2;
  Tape tape;
  const NormResult result = bench.run(&tape, tape.leaf(bench.x), tape.leaf(bench.delta));
  BackwardContext context = bench.backward();
  tape.root(result.normed, {bench.seed_y, nullptr}, context);
  tape.backward(context);
  EXPECT_LT(relative_error(values_of(bench.store.gradient_value(bench.gain)), twice), 1e-6);
}

TEST(Norm, ZeroRowsContributeZeroGradients) {
  NormBench bench({true, true, true, 0, 32}, DType::kF32);
  bench.gradients();
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.gain)), std::vector<double>(32, 0.0));
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.bias)), std::vector<double>(32, 0.0));
  EXPECT_EQ(bench.store.contributions(bench.gain), 1);
}

TEST(Norm, GradientThatOthersHoldIsNotOverwritten) {
  NormBench bench({true, true, true, 5, 40}, DType::kF32);
  const auto seed_r = values_of(bench.seed_r), seed_y = values_of(bench.seed_y);
  Tape tape;
  const NormResult result = bench.run(&tape, tape.leaf(bench.x), tape.leaf(bench.delta));
  BackwardContext context = bench.backward();
  tape.root(result.residual, {bench.seed_r, nullptr}, context);
  tape.root(result.normed, {bench.seed_y, nullptr}, context);
  tape.backward(context);
  EXPECT_EQ(values_of(bench.seed_r), seed_r);
  EXPECT_EQ(values_of(bench.seed_y), seed_y);
}

TEST(Norm, ResidualAloneStillContributes) {
  NormBench bench({false, true, false, 5, 40}, DType::kBF16);
  Tape tape;
  const Var x = tape.leaf(bench.x);
  const NormResult result = bench.run(&tape, x, tape.leaf(bench.delta));
  BackwardContext context = bench.backward();
  tape.root(result.residual, {bench.seed_r, nullptr}, context);
  tape.backward(context);
  EXPECT_EQ(values_of(tape.take(x).value), values_of(bench.seed_r));
  EXPECT_EQ(values_of(bench.store.gradient_value(bench.gain)), std::vector<double>(40, 0.0));
  EXPECT_EQ(bench.store.contributions(bench.gain), 1);
}

}  // namespace
}  // namespace deepflow
