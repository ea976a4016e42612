#include "engine/thread_share.h"

#include "core/thread_pool.h"
#include "parallel/self_communicator.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

TEST(FairThreads, BoundRanksKeepTheirCpus) {
  const std::vector<CpuSet> ranks = {{"a", {0, 1, 2, 3}}, {"a", {4, 5, 6, 7}}};
  EXPECT_EQ(fair_threads(ranks, 0), 4);
  EXPECT_EQ(fair_threads(ranks, 1), 4);
}

TEST(FairThreads, UnboundRanksShareTheHost) {
  const std::vector<CpuSet> ranks = {{"a", {0, 1, 2, 3}}, {"a", {0, 1, 2, 3}}, {"b", {0, 1, 2, 3}}};
  EXPECT_EQ(fair_threads(ranks, 0), 2);
  EXPECT_EQ(fair_threads(ranks, 2), 4);
}

TEST(FairThreads, EveryRankHasOne) {
  const std::vector<CpuSet> ranks(5, CpuSet{"a", {0, 1}});
  for (int r = 0; r < 5; ++r) EXPECT_EQ(fair_threads(ranks, r), 1);
}

TEST(FairThreads, ALoneRankHasAllItsCores) {
  const auto self = make_self_communicator("test");
  const ThreadShare share = share_threads(*self);
  EXPECT_EQ(share.threads, available_cores());
  EXPECT_TRUE(share.cpus.empty() || static_cast<int>(share.cpus.size()) == share.threads);
}

TEST(FairCpus, AreDealtInTheOrderOfRanksWhereThreadsFillThem) {
  const std::vector<CpuSet> ranks = {{"a", {0, 1, 4, 5}}, {"b", {0, 1, 4, 5}}, {"a", {0, 1, 4, 5}}};
  EXPECT_EQ(fair_cpus(ranks, 0, 2), (std::vector<int>{0, 1}));
  EXPECT_EQ(fair_cpus(ranks, 2, 2), (std::vector<int>{4, 5}));
  EXPECT_EQ(fair_cpus(ranks, 1, 4), (std::vector<int>{0, 1, 4, 5}));
}

TEST(FairCpus, AreNoneWhereThreadsLeaveSomeFreeOrSetsOverlap) {
  EXPECT_TRUE(fair_cpus({{"a", {0, 1, 2}}}, 0, 2).empty());
  EXPECT_TRUE(fair_cpus({{"a", {0, 1}}, {"a", {0, 1}}, {"a", {0, 1}}}, 0, 1).empty());
  EXPECT_TRUE(fair_cpus({{"a", {0, 1}}, {"a", {1, 2}}}, 0, 2).empty());
}

}  // namespace
}  // namespace deepflow
