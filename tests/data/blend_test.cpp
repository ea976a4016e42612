#include "data/blend.h"

#include "core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace deepflow {
namespace {

// Every source's elements come in order and without gaps, and never far from its share.
void check_blend(const std::vector<double>& weights, int64_t n, double bound) {
  const Blend blend(weights);
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> given(weights.size(), 0);
  for (int64_t i = 0; i < n; ++i) {
    const Blend::Place place = blend.place(i);
    ASSERT_EQ(place.index, given[static_cast<size_t>(place.source)]++);
    for (size_t s = 0; s < weights.size(); ++s) {
      ASSERT_NEAR(static_cast<double>(given[s]), static_cast<double>(i + 1) * weights[s] / total, bound);
      ASSERT_EQ(given[s], blend.count(static_cast<int>(s), i + 1));
    }
  }
}

TEST(Blend, KeepsToTheWeightsAtEveryElement) {
  check_blend({1}, 100, 0);
  check_blend({0.7, 0.3}, 3000, 0.5001);
  check_blend({3, 3, 3}, 3000, 1.0);
  check_blend({1, 2, 3, 4, 5, 6, 7}, 3000, 1.5);
  check_blend({1000, 1, 1e-3}, 3000, 1.0);
  std::mt19937 random(4);
  std::vector<double> weights(33);
  for (double& weight : weights) weight = 1 + random() % 1000;
  check_blend(weights, 2000, 2.0);
}

// Megatron-LM's build_blending_indices: the source whose count is furthest below its share of the elements so far.
TEST(Blend, TwoSourcesComeAsOftenAsByTheLargestDeficit) {
  const std::vector<double> weights = {0.37, 0.63};
  const Blend blend(weights);
  std::vector<int64_t> greedy(2, 0), ours(2, 0);
  for (int64_t i = 0; i < 5000; ++i) {
    const double of = static_cast<double>(std::max<int64_t>(i, 1));
    const double deficit0 = weights[0] * of - static_cast<double>(greedy[0]);
    const double deficit1 = weights[1] * of - static_cast<double>(greedy[1]);
    ++greedy[deficit1 > deficit0];
    ++ours[static_cast<size_t>(blend.place(i).source)];
    ASSERT_LE(std::abs(greedy[0] - ours[0]), 1) << i;
  }
}

TEST(Blend, FarElementsNeedNoHistory) {
  const Blend blend({0.2, 0.5, 0.3});
  const int64_t far = int64_t{1} << 50;
  std::vector<int64_t> counts;
  for (int s = 0; s < 3; ++s) counts.push_back(blend.count(s, far));
  for (int64_t i = far; i < far + 1000; ++i) {
    const Blend::Place place = blend.place(i);
    ASSERT_EQ(place.index, counts[static_cast<size_t>(place.source)]++);
  }
}

TEST(Blend, WeightsMustBePositive) {
  EXPECT_THROW(Blend({}), ConfigError);
  EXPECT_THROW(Blend({1, 0}), ConfigError);
  EXPECT_THROW(Blend({1, -1}), ConfigError);
  EXPECT_THROW(Blend({1, std::nan("")}), ConfigError);
}

}  // namespace
}  // namespace deepflow
