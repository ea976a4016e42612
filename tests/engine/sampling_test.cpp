#include "engine/sampling.h"

#include "core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

namespace deepflow {
namespace {

SamplingOptions options(double temperature, int64_t top_k = 0, double top_p = 1) {
  SamplingOptions o;
  o.temperature = temperature;
  o.top_k = top_k;
  o.top_p = top_p;
  return o;
}

// Shares of the tokens over a fine grid of the uniform number.
std::map<int32_t, double> shares(const std::vector<float>& logits, const SamplingOptions& o) {
  constexpr int kGrid = 20'000;
  std::map<int32_t, double> found;
  for (int i = 0; i < kGrid; ++i) found[sample_token(logits, o, (i + 0.5) / kGrid)] += 1.0 / kGrid;
  return found;
}

float log_of(double p) { return static_cast<float>(std::log(p)); }
const std::vector<float> kLogits = {log_of(0.1), log_of(0.4), log_of(0.05), log_of(0.3), log_of(0.15)};

TEST(SampleToken, FollowsTheSoftmax) {
  const auto found = shares(kLogits, options(1));
  for (const auto& [token, expected] : std::map<int32_t, double>{{0, 0.1}, {1, 0.4}, {2, 0.05}, {3, 0.3}, {4, 0.15}})
    EXPECT_NEAR(found.at(token), expected, 1e-3) << token;
}

TEST(SampleToken, TemperatureSharpensAndFlattens) {
  const double cold = std::pow(0.4, 2) / (0.01 + 0.16 + 0.0025 + 0.09 + 0.0225);
  EXPECT_NEAR(shares(kLogits, options(0.5)).at(1), cold, 1e-3);
  EXPECT_NEAR(shares(kLogits, options(100)).at(2), 0.2, 0.01);
}

TEST(SampleToken, WithoutTemperatureIsTheLikeliestWhateverIsDrawn) {
  for (const double uniform : {0.0, 0.5, 0.999999}) EXPECT_EQ(sample_token(kLogits, options(0), uniform), 1);
}

TEST(SampleToken, TopKKeepsTheKLikeliest) {
  const auto found = shares(kLogits, options(1, 2));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found.at(1), 0.4 / 0.7, 1e-3);
  EXPECT_NEAR(found.at(3), 0.3 / 0.7, 1e-3);
  EXPECT_EQ(shares(kLogits, options(1, 1)).size(), 1u);
  EXPECT_EQ(shares(kLogits, options(1, 99)).size(), 5u);
}

TEST(SampleToken, TopPKeepsTheFewestThatReachIt) {
  EXPECT_EQ(shares(kLogits, options(1, 0, 0.39)).size(), 1u);
  EXPECT_EQ(shares(kLogits, options(1, 0, 0.41)).size(), 2u);
  const auto found = shares(kLogits, options(1, 0, 0.8));
  EXPECT_EQ(found.size(), 3u);
  EXPECT_NEAR(found.at(4), 0.15 / 0.85, 1e-3);
  EXPECT_EQ(shares(kLogits, options(1, 0, 0)).size(), 1u);  // one token is always left
}

TEST(SampleToken, TopPCountsWhatTopKLeft) {
  // Among the two likeliest the first has 0.4 / 0.7 = 0.57.
  EXPECT_EQ(shares(kLogits, options(1, 2, 0.5)).size(), 1u);
  EXPECT_EQ(shares(kLogits, options(1, 2, 0.6)).size(), 2u);
}

TEST(SampleToken, TiesGoToTheLowerId) {
  const std::vector<float> equal(7, 1.5f);
  EXPECT_EQ(sample_token(equal, options(0), 0.9), 0);
  EXPECT_EQ(sample_token(equal, options(1, 1), 0.9), 0);
  const auto found = shares(equal, options(1, 3));
  EXPECT_EQ(found.size(), 3u);
  for (const int32_t id : {0, 1, 2}) EXPECT_NEAR(found.at(id), 1.0 / 3, 1e-3) << id;
}

TEST(SampleToken, StandsExtremeLogits) {
  const std::vector<float> extreme = {-INFINITY, 1e30f, -1e30f, 1e30f};
  const auto found = shares(extreme, options(1));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found.at(3), 0.5, 1e-3);
  EXPECT_EQ(sample_token(extreme, options(1), std::nextafter(1.0, 0.0)), 3);
}

// The definition: sort all tokens, cut, walk.
int32_t sample_by_sorting(const std::vector<float>& logits, const SamplingOptions& o, double uniform) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (o.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(o.top_k)));
  const auto logit = [&](size_t i) { return static_cast<double>(logits[static_cast<size_t>(order[i])]); };
  const auto weight = [&](size_t i) { return std::exp((logit(i) - logit(0)) / o.temperature); };
  double sum = 0, reached = 0;
  for (size_t i = 0; i < order.size(); ++i) sum += weight(i);
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || o.top_p == 1 || reached < o.top_p * sum)) reached += weight(kept++);
  double below = uniform * reached;
  for (size_t i = 0; i + 1 < kept; ++i) {
    if (below < weight(i)) return order[i];
    below -= weight(i);
  }
  return order[kept - 1];
}

TEST(SampleToken, SortsFewTokensAndPicksAsIfItHadSortedAll) {
  std::vector<float> logits;
  for (int64_t i = 0; i < 1003; ++i) logits.push_back(3 * random_normal(random_site(5, "logits"), i, 0));
  logits[700] = logits[30];
  for (const double temperature : {0.3, 1.0, 50.0})
    for (const double top_p : {1.0, 0.95, 0.5, 0.01, 0.0})
      for (const int64_t top_k : {0, 1, 40})
        for (int i = 0; i < 200; ++i) {
          const SamplingOptions o = options(temperature, top_k, top_p);
          const double uniform = i / 200.0;
          ASSERT_EQ(sample_token(logits, o, uniform), sample_by_sorting(logits, o, uniform))
              << temperature << " " << top_p << " " << top_k << " " << uniform;
        }
}

TEST(SampleToken, TheLikeliestOfEqualsIsTheFirstOfAnyLength) {
  for (const size_t n : {1, 31, 32, 33, 100}) {
    std::vector<float> logits(n, -5.0f);
    EXPECT_EQ(sample_token(logits, options(0), 0.5), 0);
    logits[n - 1] = -1.0f;
    EXPECT_EQ(sample_token(logits, options(0), 0.5), static_cast<int32_t>(n) - 1);
    logits[n / 2] = -1.0f;
    EXPECT_EQ(sample_token(logits, options(0), 0.5), static_cast<int32_t>(n / 2));
  }
}

TEST(SampleToken, LogitsThatAreNotFiniteGiveSomeToken) {
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY})
    for (const double temperature : {0.0, 1.0}) {
      const int32_t id = sample_token(std::vector<float>(40, bad), options(temperature), 0.5);
      EXPECT_TRUE(id >= 0 && id < 40);
    }
}

}  // namespace
}  // namespace deepflow
