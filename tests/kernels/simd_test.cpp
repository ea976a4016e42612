#include "tests/kernels/simd_probe.h"
#include "tests/kernels/test_store.h"

#include <bit>

namespace deepflow::testing {
namespace {

using cpu::Function;

double exact(Function function, double x) {
  switch (function) {
    case Function::kExp:
      return std::exp(x);
    case Function::kLog:
      return std::log(x);
    case Function::kTanh:
      return std::tanh(x);
    case Function::kErf:
      return std::erf(x);
    case Function::kSigmoid:
    case Function::kRoughSigmoid:
      return 1 / (1 + std::exp(-x));
    case Function::kRoughExp2:
      return std::exp2(x);
    case Function::kRoughReciprocal:
      return 1 / x;
  }
  return 0;
}

// In units of the last place that f32 has at the true value.
double error_in_ulps(double expected, float got) {
  const float nearest = static_cast<float>(expected);
  if (nearest == got || (std::isnan(expected) && std::isnan(got))) return 0;
  if (!std::isfinite(nearest) || !std::isfinite(got)) return INFINITY;
  const double magnitude = std::max(std::abs(expected), 0x1p-126);
  return std::abs(static_cast<double>(got) - expected) / std::ldexp(1.0, std::ilogb(magnitude) - 23);
}

// Every 4,001st of the 2^32 bit patterns: all exponents, both signs, infinities and NaN among them.
std::vector<float> all_over_f32() {
  std::vector<float> x = {0.0f, INFINITY, -INFINITY, std::nanf(""), 88.7228f, 88.73f, -87.5f, -103.9f, -104.5f};
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 4001)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  return x;
}

TEST(SimdMath, IsWithinTwoUnitsInTheLastPlaceEverywhere) {
  const std::vector<float> x = all_over_f32();
  std::vector<float> y(x.size());
  for (const CpuIsa isa : runnable_isas())
    for (const Function f : {Function::kExp, Function::kLog, Function::kTanh, Function::kErf, Function::kSigmoid}) {
      DF_KERNEL(isa, apply)(f, x.data(), y.data(), static_cast<int64_t>(x.size()));
      double worst = 0;
      float at = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        if (f == Function::kSigmoid && x[i] < -87) continue;  // may be 0 where the true value is subnormal
        const double error = error_in_ulps(exact(f, static_cast<double>(x[i])), y[i]);
        if (error > worst) at = x[i];
        worst = std::max(worst, error);
      }
      EXPECT_LT(worst, f == Function::kSigmoid ? 3 : 2)
          << name_of(isa) << " function " << static_cast<int>(f) << " at " << at;
    }
}

// Largest relative error where lowest <= |x| <= highest, and lowest <= x for the others than the reciprocal.
double worst_relative_error(CpuIsa isa, Function f, float lowest, float highest) {
  std::vector<float> x;
  for (const float v : all_over_f32()) {
    const float size = f == Function::kRoughReciprocal ? std::abs(v) : v;
    if (lowest <= size && size <= highest) x.push_back(v);
  }
  EXPECT_GT(x.size(), 1000u);
  std::vector<float> y(x.size());
  DF_KERNEL(isa, apply)(f, x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = exact(f, static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - expected) / std::abs(expected));
  }
  return worst;
}

TEST(SimdMath, RoughFunctionsAreFarWithinABf16) {
  for (const CpuIsa isa : runnable_isas()) {
    SCOPED_TRACE(name_of(isa));
    EXPECT_LT(worst_relative_error(isa, Function::kRoughExp2, -126, 127), 3e-6);
    EXPECT_LT(worst_relative_error(isa, Function::kRoughReciprocal, 1e-37f, 1e37f), 3e-7);
    EXPECT_LT(worst_relative_error(isa, Function::kRoughSigmoid, -75, 1e38f), 1e-5);
    const float x[] = {-200, -1e30f, -INFINITY, std::nanf("")};
    float y[4];
    DF_KERNEL(isa, apply)(Function::kRoughExp2, x, y, 4);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(y[i], 0) << x[i];
    EXPECT_TRUE(std::isnan(y[3]));
  }
}

}  // namespace
}  // namespace deepflow::testing
