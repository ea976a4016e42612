#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace deepflow {
namespace {

// Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10).
TEST(Philox, MatchesTheKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomSite, DependsOnSeedNameAndStep) {
  const RandomSite a = random_site(1, "x", 0);
  EXPECT_EQ(random_uniform(a, 3, 4), random_uniform(random_site(1, "x", 0), 3, 4));
  EXPECT_NE(random_uniform(a, 3, 4), random_uniform(random_site(2, "x", 0), 3, 4));
  EXPECT_NE(random_uniform(a, 3, 4), random_uniform(random_site(1, "y", 0), 3, 4));
  EXPECT_NE(random_uniform(a, 3, 4), random_uniform(random_site(1, "x", 1), 3, 4));
  EXPECT_NE(random_uniform(a, 3, 4), random_uniform(a, 4, 3));
}

TEST(RandomNormal, HasTheMomentsOfANormal) {
  const RandomSite site = random_site(7, "weights");
  double sum = 0, squares = 0, fourth = 0;
  const int n = 40000;
  for (int i = 0; i < n; ++i) {
    const double x = static_cast<double>(random_normal(site, i / 200, i % 200));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 1, 0.03);
  EXPECT_NEAR(fourth / n, 3, 0.2);
}

}  // namespace
}  // namespace deepflow
