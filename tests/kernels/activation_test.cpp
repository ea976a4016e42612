#include "kernels/ops/activation.h"

#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <optional>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

enum class Kind { kGeluExact, kGeluTanh, kSwiglu, kGeglu };
constexpr Kind kKinds[] = {Kind::kGeluExact, Kind::kGeluTanh, Kind::kSwiglu, Kind::kGeglu};

bool is_gated(Kind kind) { return kind == Kind::kSwiglu || kind == Kind::kGeglu; }

Var apply(ForwardContext& context, Kind kind, const Var& u) {
  if (kind == Kind::kSwiglu) return swiglu(context, u);
  if (kind == Kind::kGeglu) return geglu(context, u);
  return gelu(context, u, kind == Kind::kGeluExact ? GeluKind::kExact : GeluKind::kTanh);
}

int64_t outputs_of(Kind kind, int64_t inputs) { return is_gated(kind) ? inputs / 2 : inputs; }

double gelu_of(Kind kind, double x) {
  if (kind == Kind::kGeluExact) return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

double gelu_slope(Kind kind, double x) {
  if (kind == Kind::kGeluExact)
    return 0.5 * std::erfc(-x / std::numbers::sqrt2) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
  const double c = std::sqrt(2 / std::numbers::pi), t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}

struct Reference {
  std::vector<double> y, dx;
};

Reference reference(Kind kind, const Tensor& u, const Tensor& dy) {
  const auto x = values_of(u), d = values_of(dy);
  Reference ref;
  ref.dx.resize(x.size());
  if (!is_gated(kind)) {
    for (size_t i = 0; i < x.size(); ++i) {
      ref.y.push_back(gelu_of(kind, x[i]));
      ref.dx[i] = d[i] * gelu_slope(kind, x[i]);
    }
    return ref;
  }
  const size_t n = static_cast<size_t>(dy.cols());
  for (size_t i = 0; i < d.size(); ++i) {
    const size_t at = i / n * 2 * n + i % n;
    const double g = x[at], up = x[at + n], s = 1 / (1 + std::exp(-g));
    const bool silu = kind == Kind::kSwiglu;
    const double value = silu ? g * s : gelu_of(kind, g), slope = silu ? s + g * s * (1 - s) : gelu_slope(kind, g);
    ref.y.push_back(value * up);
    ref.dx[at] = d[i] * up * slope;
    ref.dx[at + n] = d[i] * value;
  }
  return ref;
}

Tensor gradient(OpBench& bench, Kind kind, const Tensor& u, const Tensor& dy) {
  Tape tape;
  const Var x = tape.leaf(u);
  ForwardContext forward = bench.forward(&tape);
  const Var y = apply(forward, kind, x);
  BackwardContext backward = bench.backward();
  tape.root(y, {dy, nullptr}, backward);
  tape.backward(backward);
  return tape.take(x).value;
}

TEST(Activation, MatchesTheReferenceForEveryDtypeShapeAndInstructionSet) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const DType dtype : testing::kComputeDtypes) {
      RuntimeOptions options;
      options.cpu_isa = isa;
      OpBench bench(dtype, options);
      const double tolerance = testing::rounding_tolerance(dtype, 3e-7);
      for (const Kind kind : kKinds)
        for (const int64_t rows : {1, 5})
          for (const int64_t cols : {10, 16, 54, 3072}) {
            SCOPED_TRACE(fmt::format("{} {} kind {} [{}, {}]", name_of(isa), name_of(dtype), static_cast<int>(kind),
                                     rows, cols));
            const Tensor u = bench.normal("u", {rows, cols}, dtype, 2);
            const Tensor dy = bench.normal("dy", {rows, outputs_of(kind, cols)}, dtype);
            const Reference ref = reference(kind, u, dy);
            ForwardContext context = bench.forward(nullptr);
            EXPECT_LT(relative_error(values_of(apply(context, kind, {u}).value), ref.y), tolerance);
            EXPECT_LT(relative_error(values_of(gradient(bench, kind, u, dy)), ref.dx), tolerance);
          }
    }
}

TEST(Activation, GeluIsAccurateOverItsWholeRange) {
  for (const CpuIsa isa : testing::runnable_isas()) {
    RuntimeOptions options;
    options.cpu_isa = isa;
    OpBench bench(DType::kF32, options);
    constexpr int64_t kSamples = 40001;
    Tensor u = bench.empty({1, kSamples}, DType::kF32), one = bench.empty({1, kSamples}, DType::kF32);
    fill(bench.runtime, one, 1);
    for (int64_t i = 0; i < kSamples; ++i) u.data<float>()[i] = -20.0f + 0.001f * static_cast<float>(i);
    for (const Kind kind : {Kind::kGeluExact, Kind::kGeluTanh}) {
      ForwardContext context = bench.forward(nullptr);
      const auto y = values_of(apply(context, kind, {u}).value), slope = values_of(gradient(bench, kind, u, one));
      for (size_t i = 0; i < y.size(); ++i) {
        const double x = static_cast<double>(u.data<float>()[i]);
        ASSERT_NEAR(y[i], gelu_of(kind, x), 2e-7 * std::max(1.0, std::abs(x))) << "at " << x;
        ASSERT_NEAR(slope[i], gelu_slope(kind, x), 1e-6) << "at " << x;
      }
    }
  }
}

TEST(Activation, GradientsMatchDifferenceQuotients) {
  RuntimeOptions options;
  options.threads = 1;
  OpBench bench(DType::kF32, options);
  for (const Kind kind : kKinds) {
    Tensor u = bench.normal("u", {3, 26}, DType::kF32);
    const Tensor dy = bench.normal("dy", {3, outputs_of(kind, 26)}, DType::kF32);
    const auto weights = values_of(dy);
    const auto loss = [&] {
      ForwardContext context = bench.forward(nullptr);
      const auto y = values_of(apply(context, kind, {u}).value);
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += y[i] * weights[i];
      return sum;
    };
    expect_gradient(u, gradient(bench, kind, u, dy), loss, 1e-2, 1e-3);
  }
}

TEST(Activation, LargeInputsStayFinite) {
  OpBench bench;
  for (const Kind kind : kKinds) {
    Tensor u = bench.empty({1, 4}, DType::kF32), dy = bench.empty({1, outputs_of(kind, 4)}, DType::kF32);
    const float large[] = {1e4f, -1e4f, 300.0f, -300.0f};
    std::copy(large, large + 4, u.data<float>());
    fill(bench.runtime, dy, 1);
    ForwardContext context = bench.forward(nullptr);
    for (const double y : values_of(apply(context, kind, {u}).value)) EXPECT_TRUE(std::isfinite(y));
    for (const double d : values_of(gradient(bench, kind, u, dy))) EXPECT_TRUE(std::isfinite(d));
  }
}

TEST(Activation, BackwardLeavesWhatOthersHoldAlone) {
  OpBench bench;
  for (const Kind kind : kKinds) {
    const Tensor u = bench.normal("u", {3, 32}, DType::kF32);
    const Tensor dy = bench.normal("dy", {3, outputs_of(kind, 32)}, DType::kF32);
    const auto u_before = values_of(u), dy_before = values_of(dy);
    const auto first = values_of(gradient(bench, kind, u, dy));
    EXPECT_EQ(values_of(u), u_before);
    EXPECT_EQ(values_of(dy), dy_before);
    EXPECT_EQ(values_of(gradient(bench, kind, bench.cast(u, DType::kF32), bench.cast(dy, DType::kF32))), first);
  }
}

TEST(Activation, WorksInPlaceOnWhatTheTapeOwnsAlone) {
  OpBench bench(DType::kBF16);
  for (const Kind kind : kKinds) {
    const Tensor u = bench.normal("u", {33, 64}, DType::kBF16);
    const Tensor dy = bench.normal("dy", {33, outputs_of(kind, 64)}, DType::kBF16);
    const auto expected = values_of(gradient(bench, kind, u, dy));
    Tape tape;
    ForwardContext forward = bench.forward(&tape);
    Var x = tape.leaf(bench.cast(u, DType::kBF16));
    Var y = apply(forward, kind, x);
    x.value = {};
    BackwardContext backward = bench.backward();
    const int64_t in_use = bench.runtime.memory().stats().in_use;
    tape.root(y, {bench.cast(dy, DType::kBF16), nullptr}, backward);
    tape.backward(backward);
    EXPECT_EQ(values_of(tape.take(x).value), expected);
    EXPECT_LT(bench.runtime.memory().stats().in_use, in_use);
  }
}

TEST(Activation, ZeroRowsPass) {
  OpBench bench;
  for (const Kind kind : kKinds) {
    const Tensor u = bench.empty({0, 32}, DType::kF32), dy = bench.empty({0, outputs_of(kind, 32)}, DType::kF32);
    EXPECT_EQ(gradient(bench, kind, u, dy).num_elements(), 0);
  }
}

}  // namespace
}  // namespace deepflow
