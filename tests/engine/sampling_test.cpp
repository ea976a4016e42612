#include "engine/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
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

}  // namespace
}  // namespace deepflow
