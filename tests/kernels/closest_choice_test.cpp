#include "kernels/ops/closest_choice.h"

#include "tests/kernels/test_store.h"

#include <cmath>

namespace deepflow {
namespace {

using testing::OpBench;

double closest(const std::vector<float>& rows, int64_t experts, const Routing& routing, const float* bias = nullptr) {
  OpBench bench;
  Tensor scores = bench.empty({static_cast<int64_t>(rows.size()) / experts, experts}, DType::kF32);
  std::copy(rows.begin(), rows.end(), scores.data<float>());
  return closest_choice(bench.runtime, scores, bias, routing);
}

Routing choosing(int64_t choices, int64_t groups = 1, int64_t top_groups = 1, int64_t group_best = 2) {
  Routing r;
  r.choices = choices, r.groups = groups, r.top_groups = top_groups, r.group_best = group_best;
  return r;
}

TEST(ClosestChoice, IsTheSmallestDifferenceThatDecided) {
  const std::vector<float> rows = {0.5f, 0.125f, 0.25f, 1, 0.5f, 0.25f};
  EXPECT_EQ(closest(rows, 3, choosing(1)), 0.25);
  EXPECT_EQ(closest(rows, 3, choosing(2)), 0.125);
  EXPECT_TRUE(std::isinf(closest(rows, 3, choosing(3))));
  const float bias[] = {0, 0, 0.25f};
  EXPECT_EQ(closest(rows, 3, choosing(1), bias), 0);
}

TEST(ClosestChoice, CountsGroupsAndWhoIsInThem) {
  // Groups of two, worth 1, 0.75 and 1.25 by both experts, 0.75, 0.5 and 0.6875 by the best one.
  const std::vector<float> row = {0.75f, 0.25f, 0.5f, 0.25f, 0.6875f, 0.5625f};
  EXPECT_EQ(closest(row, 6, choosing(1, 3, 1)), 0.125);      // inside the last group; groups are 0.25 apart
  EXPECT_EQ(closest(row, 6, choosing(1, 3, 2)), 0.0625);     // 0.75 before 0.6875
  EXPECT_EQ(closest(row, 6, choosing(2, 3, 1, 1)), 0.0625);  // the first group before the last one
}

}  // namespace
}  // namespace deepflow
