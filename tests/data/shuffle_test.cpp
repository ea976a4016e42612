#include "data/shuffle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace deepflow {
namespace {

TEST(Permutation, IsAPermutationWithAnInverse) {
  for (const uint64_t n : {1, 2, 3, 4, 5, 15, 16, 17, 100, 1000, 4095, 4097, 100003}) {
    const Permutation order(n, 42);
    std::vector<bool> seen(n, false);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t to = order(i);
      ASSERT_LT(to, n);
      EXPECT_FALSE(seen[to]);
      seen[to] = true;
      EXPECT_EQ(order.inverse(to), i);
    }
  }
}

TEST(Permutation, WorksBeyond32Bits) {
  const uint64_t n = (uint64_t{1} << 60) + 12345;
  const Permutation order(n, 42);
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t at = n - 1 - i * 77777777;
    ASSERT_LT(order(at), n);
    EXPECT_EQ(order.inverse(order(at)), at);
  }
}

// The value is part of what a checkpoint's position means.
TEST(Permutation, KeepsItsOrderForever) {
  const Permutation order(1000, shuffle_key(1, 2, 3));
  std::vector<uint64_t> first;
  for (uint64_t i = 0; i < 5; ++i) first.push_back(order(i));
  EXPECT_EQ(first, (std::vector<uint64_t>{65, 212, 114, 624, 740}));
}

// Over many keys each element must land everywhere equally often: chi-square with n - 1 degrees of freedom.
TEST(Permutation, SpreadsEachElementEvenly) {
  for (const uint64_t n : {7u, 64u, 100u}) {
    const int keys = 20000;
    for (const uint64_t i : {uint64_t{0}, n / 2, n - 1}) {
      std::vector<int> hits(n, 0);
      for (int key = 0; key < keys; ++key) ++hits[Permutation(n, shuffle_key(9, 0, static_cast<uint64_t>(key)))(i)];
      const double expected = static_cast<double>(keys) / static_cast<double>(n);
      double chi = 0;
      for (const int hit : hits) chi += (hit - expected) * (hit - expected) / expected;
      const double freedom = static_cast<double>(n - 1);
      EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom)) << n << " " << i;
    }
  }
}

// Neighbours must not stay neighbours: few places rise by exactly one.
TEST(Permutation, BreaksUpRuns) {
  const uint64_t n = 50000;
  const Permutation order(n, 5);
  int runs = 0;
  for (uint64_t i = 0; i + 1 < n; ++i) runs += order(i + 1) == order(i) + 1;
  EXPECT_LT(runs, 10);
}

}  // namespace
}  // namespace deepflow
