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
      return 1 / (1 + std::exp(-x));
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

}  // namespace
}  // namespace deepflow::testing
