#include "kernels/cuda/adamw.h"

#include "tests/kernels/cuda/gpu_test.h"

#include <cmath>

namespace deepflow {
namespace {

constexpr double kLr = 1e-2, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kDecay = 0.1, kScale = 0.5;

cpu::AdamwConstants constants(int step) {
  const double correction1 = 1 - std::pow(kBeta1, step), correction2 = 1 - std::pow(kBeta2, step);
  cpu::AdamwConstants c{};
  c.decay = static_cast<float>(1 - kLr * kDecay);
  c.beta2 = static_cast<float>(kBeta2);
  c.one_minus_beta1 = static_cast<float>(1 - kBeta1);
  c.one_minus_beta2 = static_cast<float>(1 - kBeta2);
  c.step_size = static_cast<float>(kLr / correction1);
  c.inverse_root = static_cast<float>(1 / std::sqrt(correction2));
  c.eps = static_cast<float>(kEps);
  c.gradient_scale = static_cast<float>(kScale);
  return c;
}

struct State {
  std::vector<double> p, m, v;
};

// Loshchilov & Hutter 2019, algorithm 2, in f64.
void step_in_double(State& s, const std::vector<float>& gradient, int step) {
  for (size_t i = 0; i < s.p.size(); ++i) {
    const double g = gradient[i] * kScale;
    s.m[i] = kBeta1 * s.m[i] + (1 - kBeta1) * g;
    s.v[i] = kBeta2 * s.v[i] + (1 - kBeta2) * g * g;
    const double m_hat = s.m[i] / (1 - std::pow(kBeta1, step)), v_hat = s.v[i] / (1 - std::pow(kBeta2, step));
    s.p[i] -= kLr * (m_hat / (std::sqrt(v_hat) + kEps) + kDecay * s.p[i]);
  }
}

// n elements that start `offset` elements into their buffers, three steps from zero moments.
void check(int64_t n, int64_t offset) {
  SCOPED_TRACE(testing::Message() << n << " elements from " << offset);
  const int64_t all = n + 2 * offset;  // the rest must stay as it was
  const auto p = normal(all, 1);
  const std::vector<float> zeros(static_cast<size_t>(all));
  State want{{p.begin() + offset, p.begin() + offset + n}, std::vector<double>(n), std::vector<double>(n)};
  std::vector<std::vector<float>> gradients;
  for (int step = 1; step <= 3; ++step) {
    gradients.push_back(normal(n, 10 + static_cast<unsigned>(step)));
    step_in_double(want, gradients.back(), step);
  }
  repeat([&](Gpu& gpu) {
    float *master = gpu.upload(p), *m = gpu.upload(zeros), *v = gpu.upload(zeros);
    for (int step = 1; step <= 3; ++step) {
      cuda::adamw(constants(step), master + offset, m + offset, v + offset, gpu.upload(gradients[step - 1]), n,
                  gpu.stream());
    }
    Bits bits;
    const auto got = gpu.download(master, all);
    bits.add(got);
    expect_close(std::vector<float>(got.begin() + offset, got.begin() + offset + n), want.p, 1e-6, "parameter");
    expect_close(gpu.download(m + offset, n), want.m, 1e-6, "first moment");
    expect_close(gpu.download(v + offset, n), want.v, 1e-6, "second moment");
    for (int64_t i = 0; i < offset; ++i) {
      EXPECT_EQ(got[i], p[i]);
      EXPECT_EQ(got[offset + n + i], p[offset + n + i]);
    }
    return bits;
  });
}

TEST(CudaAdamw, EqualsTheAlgorithmInDouble) {
  for (const int64_t n : {1, 3, 4, 1023, 1024, 4099}) check(n, 0);
}

TEST(CudaAdamw, TakesRangesThatAreNotAligned) {
  check(1025, 1);
  check(6, 3);
}

TEST(CudaAdamw, NothingToDoIsNoLaunch) {
  repeat([](Gpu& gpu) {
    cuda::adamw(constants(1), nullptr, nullptr, nullptr, nullptr, 0, gpu.stream());
    return Bits();
  });
}

}  // namespace
}  // namespace deepflow
