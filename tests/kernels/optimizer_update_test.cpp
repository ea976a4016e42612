#include "kernels/ops/optimizer_update.h"

#include "tests/kernels/test_store.h"

#include <array>

namespace deepflow::testing {
namespace {

constexpr size_t kParameters = 5, kSteps = 3;
using Values = std::array<double, kParameters>;
constexpr Values kStart = {0.5, -1.25, 2.0, 0.0, -0.03};
constexpr std::array<Values, kSteps> kGradients = {
    {{0.1, -2.0, 0.003, 0.0, 1e-6}, {-0.2, 1.5, 0.004, 0.0, 3e-6}, {0.7, 0.25, -0.005, 1.0, -2e-6}}};

Tensor vector_of(OpBench& bench, const Values& values) {
  Tensor t = bench.empty({static_cast<int64_t>(kParameters)}, DType::kF32);
  for (size_t i = 0; i < kParameters; ++i) t.data<float>()[i] = static_cast<float>(values[i]);
  return t;
}
void expect_values(const Tensor& t, const Values& expected, double tolerance) {
  const std::vector<double> got = values_of(t);
  for (size_t i = 0; i < kParameters; ++i) EXPECT_NEAR(got[i], expected[i], tolerance * std::abs(expected[i])) << i;
}

// Expected values: torch 2.15 in f64, three steps of lr 0.01, betas 0.9 and 0.999, eps 1e-8, weight decay 0.1.
TEST(Adamw, EqualsTorchOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.cpu_isa = isa});
    Tensor p = vector_of(bench, kStart), m = vector_of(bench, {}), v = vector_of(bench, {});
    for (size_t s = 0; s < kSteps; ++s) {
      // Clipping by a half of gradients twice as large changes nothing.
      Tensor g = vector_of(bench, kGradients[s]);
      scale(bench.runtime, g, 2);
      adamw_update(bench.runtime, {0.01, 0.9, 0.999, 1e-8, 0.1, static_cast<int64_t>(s) + 1, 0.5f}, p, m, v, g);
    }
    expect_values(p, {0.48695399, -1.23533049, 1.97313196, -0.00638813588, -0.0514862644}, 1e-6);
    expect_values(m, {0.0601, -0.002, 0.000103, 0.1, 1.51e-07}, 1e-5);
    expect_values(v, {0.00053994001, 0.006302254, 4.9966009e-08, 0.001, 1.3989001e-14}, 1e-6);
  }
}

// Expected values: torch 2.15 in f64, three steps of lr 0.05.
TEST(Sgd, EqualsTorchOnEveryInstructionSet) {
  struct Case {
    double momentum, weight_decay;
    bool nesterov;
    Values expected;
  };
  const Case cases[] = {
      {0, 0, false, {0.47, -1.2375, 1.9999, -0.05, -0.0300001}},
      {0, 0.01, false, {0.469250374, -1.23568841, 1.99690175, -0.05, -0.0299551224}},
      {0.9, 0.01, false, {0.469052599, -1.13064772, 1.99385628, -0.05, -0.0299162063}},
      {0.9, 0.01, true, {0.441402174, -1.12845307, 1.99137624, -0.095, -0.0298797572}},
  };
  for (const CpuIsa isa : runnable_isas())
    for (const Case& c : cases) {
      OpBench bench(DType::kF32, {.cpu_isa = isa});
      Tensor p = vector_of(bench, kStart), b;
      if (c.momentum != 0) b = vector_of(bench, {1e9, 1e9, 1e9, 1e9, 1e9});  // the first step overwrites it
      for (size_t s = 0; s < kSteps; ++s)
        sgd_update(bench.runtime, {0.05, c.momentum, c.weight_decay, c.nesterov, s == 0, 1.0f}, p, b,
                   vector_of(bench, kGradients[s]));
      expect_values(p, c.expected, 1e-6);
    }
}

// By hand, in f64; an element whose mixed gradient is 0 stays.
TEST(Lion, MovesByTheSignOnEveryInstructionSet) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kF32, {.cpu_isa = isa});
    Tensor p = vector_of(bench, kStart), m = vector_of(bench, {});
    Values expected = kStart, moment = {};
    for (const Values& gradient : kGradients) {
      const Tensor g = vector_of(bench, gradient);
      LionRange(bench.runtime, {0.01, 0.9, 0.99, 0.1, 2})(p.data<float>(), m.data<float>(), g.data<float>(),
                                                          static_cast<int64_t>(kParameters));
      for (size_t i = 0; i < kParameters; ++i) {
        const double mixed = 0.9 * moment[i] + 0.1 * 2 * gradient[i];
        expected[i] = expected[i] * (1 - 0.001) - 0.01 * (mixed > 0 ? 1 : mixed < 0 ? -1 : 0);
        moment[i] = 0.99 * moment[i] + 0.01 * 2 * gradient[i];
      }
    }
    expect_values(p, expected, 1e-6);
    expect_values(m, moment, 1e-5);
  }
}

TEST(Momentum, MixesTheGradientAsTorchLerpsIt) {
  for (const CpuIsa isa : runnable_isas())
    for (const bool nesterov : {false, true}) {
      OpBench bench(DType::kF32, {.cpu_isa = isa});
      Tensor m = vector_of(bench, {}), p = vector_of(bench, kStart);
      Values moment = {}, master = kStart;
      for (const Values& gradient : kGradients) {
        Tensor g = vector_of(bench, gradient);
        MomentumRange(bench.runtime, 0.95, nesterov, 0.5f)(m.data<float>(), g.data<float>(), kParameters);
        decayed_step(bench.runtime, 0.9, 0.1, p.data<float>(), g.data<float>(), kParameters);
        Values mixed;
        for (size_t i = 0; i < kParameters; ++i) {
          const double x = 0.5 * gradient[i];
          moment[i] += 0.05 * (x - moment[i]);
          mixed[i] = nesterov ? x + 0.95 * (moment[i] - x) : moment[i];
          master[i] = 0.9 * master[i] - 0.1 * mixed[i];
        }
        expect_values(g, mixed, 1e-5);
      }
      expect_values(p, master, 1e-6);
    }
}

TEST(Adamw, LongRangesFollowTheDoubleReferenceForAnyNumberOfThreads) {
  constexpr int64_t kElements = 70'001;
  std::vector<double> results[2];
  for (const int threads : {1, 2}) {
    OpBench bench(DType::kF32, {.threads = threads});
    Tensor p = bench.normal("p", {kElements}, DType::kF32), m = bench.normal("m", {kElements}, DType::kF32, 0.1f);
    Tensor v = bench.normal("v", {kElements}, DType::kF32, 0.1f);
    for (int64_t i = 0; i < kElements; ++i) v.data<float>()[i] = std::abs(v.data<float>()[i]);
    const Tensor g = bench.normal("g", {kElements}, DType::kF32);
    const std::vector<double> p0 = values_of(p), m0 = values_of(m), v0 = values_of(v), g0 = values_of(g);
    const AdamwStep step{3e-4, 0.9, 0.95, 1e-8, 0.1, 17, 0.25f};
    adamw_update(bench.runtime, step, p, m, v, g);
    std::vector<double> expected;
    for (size_t i = 0; i < p0.size(); ++i) {
      const double grad = 0.25 * g0[i], first = 0.9 * m0[i] + 0.1 * grad, second = 0.95 * v0[i] + 0.05 * grad * grad;
      const double denominator = std::sqrt(second / (1 - std::pow(0.95, 17))) + 1e-8;
      expected.push_back(p0[i] * (1 - 3e-5) - 3e-4 / (1 - std::pow(0.9, 17)) * first / denominator);
    }
    results[threads - 1] = values_of(p);
    EXPECT_LT(relative_error(results[threads - 1], expected), 1e-7);
  }
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace deepflow::testing
