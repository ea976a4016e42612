#include "kernels/ops/adamw_8bit.h"

#include "tests/kernels/test_store.h"

#include <algorithm>

namespace deepflow::testing {
namespace {

constexpr int64_t kBlock = cpu::kLargestBlock;

// bitsandbytes' create_dynamic_map, as its paper describes it: values in order.
std::vector<double> dynamic_map(bool has_sign) {
  std::vector<double> values = {0, 1};
  for (int i = 0; i < 7; ++i) {
    const int items = (has_sign ? 1 << i : 2 << i) + 1;
    for (int k = 0; k + 1 < items; ++k) {
      const double lo = 0.1 + 0.9 * k / (items - 1), hi = 0.1 + 0.9 * (k + 1) / (items - 1);
      values.push_back(std::pow(10.0, i - 6) * (lo + hi) / 2);
      if (has_sign) values.push_back(-values.back());
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

TEST(DynamicMap, HasTheValuesOfThePaper) {
  for (const bool has_sign : {false, true}) {
    const DynamicMap map(has_sign);
    std::vector<double> values(map.codes().value, map.codes().value + 256);
    std::sort(values.begin(), values.end());
    const std::vector<double> expected = dynamic_map(has_sign);
    ASSERT_EQ(expected.size(), 256u);
    for (size_t i = 0; i < 256; ++i) EXPECT_NEAR(values[i], expected[i], 1e-7 * std::abs(expected[i])) << i;
  }
}

struct Block {
  explicit Block(int64_t n) : size(n), master(size_t(n)), m(size_t(n)), root(size_t(n)) {}
  int64_t size;
  std::vector<float> master;
  std::vector<uint8_t> m, root;
  float m_scale = 0, root_scale = 0;
  cpu::QuantisedMoments moments() { return {m.data(), root.data(), &m_scale, &root_scale}; }
};

double nearest(const std::vector<double>& values, double x, bool never_zero) {
  double best = never_zero ? values[1] : values[0];
  for (const double v : values)
    if (std::abs(v - x) < std::abs(best - x) && !(never_zero && v == 0)) best = v;
  return best;
}

// A second program of the same definition, in f64.
TEST(Adamw8bit, FollowsTheDoubleReferenceOnEveryInstructionSet) {
  const DynamicMap first(true), second(false);
  const std::vector<double> signed_values = dynamic_map(true), roots = dynamic_map(false);
  for (const CpuIsa isa : runnable_isas())
    for (const int64_t n : {int64_t{1}, int64_t{13}, kBlock}) {
      Runtime runtime({.threads = 1, .cpu_isa = isa});
      Block block(n);
      std::vector<double> p(static_cast<size_t>(n)), m(p), r(p);
      for (int step = 1; step <= 5; ++step) {
        std::vector<float> g(static_cast<size_t>(n));
        for (size_t i = 0; i < g.size(); ++i)  // seven decades
          g[i] = random_normal(random_site(5, "g"), step, int64_t(i)) * std::pow(10.0f, -static_cast<float>(i % 8));
        const AdamwStep s{0.01, 0.9, 0.95, 1e-8, 0.1, step, 0.5f};
        Adamw8bitBlock(runtime, s, first, second)(block.master.data(), block.moments(), g.data(), n);
        double m_scale = 0, r_scale = 0;
        for (size_t i = 0; i < p.size(); ++i) {
          const double grad = 0.5 * static_cast<double>(g[i]);
          m[i] = 0.9 * m[i] + 0.1 * grad;
          const double v = 0.95 * r[i] * r[i] + 0.05 * grad * grad;
          r[i] = std::sqrt(v);
          p[i] = p[i] * (1 - 1e-3) -
                 0.01 * (m[i] / (1 - std::pow(0.9, step))) / (std::sqrt(v / (1 - std::pow(0.95, step))) + 1e-8);
          m_scale = std::max(m_scale, std::abs(m[i]));
          r_scale = std::max(r_scale, r[i]);
        }
        EXPECT_NEAR(block.m_scale, m_scale, 1e-5 * m_scale);
        EXPECT_NEAR(block.root_scale, r_scale, 1e-5 * r_scale);
        for (size_t i = 0; i < p.size(); ++i) {
          EXPECT_NEAR(block.master[i], p[i], 1e-5 * (1e-3 + std::abs(p[i]))) << "step " << step << " element " << i;
          const double m_got = static_cast<double>(first.codes().value[block.m[i]]);
          const double r_got = static_cast<double>(second.codes().value[block.root[i]]);
          // As near as the nearest, whichever side of a middle f32 puts it.
          EXPECT_NEAR(std::abs(m_got - m[i] / m_scale),
                      std::abs(nearest(signed_values, m[i] / m_scale, false) - m[i] / m_scale), 1e-6);
          EXPECT_NEAR(std::abs(r_got - r[i] / r_scale),
                      std::abs(nearest(roots, r[i] / r_scale, r[i] > 0) - r[i] / r_scale), 1e-6);
          if (r[i] > 0) {
            EXPECT_GT(r_got, 0);
          }
          m[i] = m_got * static_cast<double>(block.m_scale);
          r[i] = r_got * static_cast<double>(block.root_scale);
          p[i] = static_cast<double>(block.master[i]);
        }
      }
    }
}

TEST(Adamw8bit, GivesEveryValueOfAMapItsOwnCode) {
  const DynamicMap first(true), second(false);
  Runtime runtime({.threads = 1});
  for (int begin = 0; begin < 256; begin += 32) {
    Block block(kBlock);  // half of it values, of which one has magnitude 1
    std::vector<float> g(kBlock, 0.0f);
    block.m_scale = 1;
    for (int k = 0; k < 32; ++k) block.m[static_cast<size_t>(k)] = static_cast<uint8_t>(begin + k);
    block.m[40] = static_cast<uint8_t>(first.codes().largest);
    const std::vector<uint8_t> before = block.m;
    Adamw8bitBlock(runtime, {0, 1, 0.95, 1e-8, 0, 1, 1}, first, second)(block.master.data(), block.moments(), g.data(),
                                                                        kBlock);
    EXPECT_EQ(block.m, before) << begin;
  }
}

TEST(Adamw8bit, LeavesMomentsOfZeroGradientsZero) {
  const DynamicMap first(true), second(false);
  Runtime runtime({.threads = 1});
  Block block(kBlock);
  const std::vector<float> g(kBlock, 0.0f);
  Adamw8bitBlock(runtime, {0.1, 0.9, 0.95, 1e-8, 0, 1, 1}, first, second)(block.master.data(), block.moments(),
                                                                          g.data(), kBlock);
  EXPECT_EQ(block.m_scale, 0);
  EXPECT_EQ(block.root_scale, 0);
  for (const float p : block.master) EXPECT_EQ(p, 0);
}

}  // namespace
}  // namespace deepflow::testing
