#include "core/error.h"
#include "parallel/schedule_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace deepflow {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ScheduleNames, ComputeActionsAreReadBackFromTheirNames) {
  for (const Action& action : {Action{Do::kF, 0, 3}, Action{Do::kB, 12, 0}, Action{Do::kW, 1, 63},
                               Action{Do::kBW, 2, 4}, Action{Do::kOverlapFB, 0, 3, 1, 2}}) {
    const auto back = compute_action_named(name_of(action));
    ASSERT_TRUE(back.has_value()) << name_of(action);
    EXPECT_EQ(*back, action);
  }
  EXPECT_EQ(name_of({Do::kOverlapFB, 0, 3, 1, 2}), "F c0 m3 + BW c1 m2");
  EXPECT_EQ(name_of({Do::kRecvB, 4, 5}), "recv B c4 m5");
  EXPECT_EQ(name_of({Do::kGather, 4, 0}), "gather c4");
}

TEST(ScheduleNames, OtherTextsAreNoComputeAction) {
  for (const char* text : {"", "F", "F c0", "F c0 m", "F c0 mx", "F c-1 m0", "F m0 c0", "G c0 m0", "gather c0",
                           "send F c0 m0", "F c0 m1 +", "F c0 m1 + F c1 m0", "BW c0 m1 + BW c1 m0", "F c0 m1 W c0 m1"})
    EXPECT_FALSE(compute_action_named(text).has_value()) << text;
}

TEST(ScheduleNames, PartsSayWhatHappensInAnAction) {
  const std::vector<ComputePart> parts = parts_of({Do::kOverlapFB, 0, 3, 1, 2});
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_TRUE(parts[0].f && !parts[0].b && !parts[0].w && parts[0].chunk == 0 && parts[0].micro_batch == 3);
  EXPECT_TRUE(!parts[1].f && parts[1].b && parts[1].w && parts[1].chunk == 1 && parts[1].micro_batch == 2);
  EXPECT_TRUE(parts_of({Do::kSendF, 0, 0}).empty());
}

TEST(ScheduleRegistry, MisspeltNamesAreToldTheNearest) {
  EXPECT_THAT(error_of([] { make_schedule("zb_w", 2, 2, 4); }), HasSubstr("did you mean zb_v?"));
}

TEST(ScheduleRegistry, NumbersThatAScheduleCannotWorkWithAreRefused) {
  EXPECT_EQ(
      error_of([] { make_schedule("zb_v", 4, 3, 8); }),
      "parallel.vp: schedule zb_v cuts the model into exactly 2 chunks a rank, got 3; leave parallel.vp out, or take "
      "parallel.schedule interleaved_1f1b");
  EXPECT_THAT(error_of([] { make_schedule("1f1b", 4, 2, 8); }), HasSubstr("parallel.vp"));
  EXPECT_THAT(error_of([] { make_schedule("1f1b", 4, 1, 0); }), HasSubstr("at least 1 micro-batch"));
  EXPECT_THAT(error_of([] { make_schedule("1f1b", 0, 1, 1); }), HasSubstr("parallel.pp"));
}

TEST(ScheduleRegistry, VShapesHaveBothEndsOfTheModelOnTheFirstRank) {
  for (const ScheduleKind& kind : schedule_kinds()) {
    const Schedule schedule = make_schedule(kind.name, 4, 0, 8);
    EXPECT_EQ(schedule.rank_of_chunk.back() == 0, kind.v_shaped) << kind.name;
    EXPECT_EQ(schedule.rank_of_chunk.front(), 0) << kind.name;
  }
  EXPECT_THAT(make_schedule("zb_v", 3, 2, 1).rank_of_chunk, ElementsAre(0, 1, 2, 2, 1, 0));
  EXPECT_THAT(make_schedule("interleaved_1f1b", 3, 2, 1).rank_of_chunk, ElementsAre(0, 1, 2, 0, 1, 2));
}

TEST(ScheduleRegistry, OneRankGoesForwardAndBackwardMicroBatchByMicroBatch) {
  for (const ScheduleKind& kind : schedule_kinds()) {
    const Schedule schedule = make_schedule(kind.name, 1, 0, 2);
    std::vector<Action> expected;
    for (int m = 0; m < 2; ++m) {
      for (int chunk = 0; chunk < schedule.num_chunks(); ++chunk) expected.push_back({Do::kF, chunk, m});
      for (int chunk = schedule.num_chunks(); chunk-- > 0;) expected.push_back({Do::kBW, chunk, m});
    }
    EXPECT_EQ(schedule.of_rank.front(), expected) << kind.name;
  }
}

TEST(ScheduleRegistry, ListsOfASmallPipelineAreThoseOfThePapers) {
  const auto names = [](const std::vector<Action>& list) {
    std::string text;
    for (const Action& a : list) text += name_of(a) + ", ";
    return text;
  };
  EXPECT_EQ(names(make_schedule("1f1b", 2, 1, 3).of_rank[0]),
            "F c0 m0, F c0 m1, BW c0 m0, F c0 m2, BW c0 m1, BW c0 m2, ");
  EXPECT_EQ(names(make_schedule("zb_h1", 2, 1, 3).of_rank[1]),
            "F c1 m0, B c1 m0, F c1 m1, B c1 m1, W c1 m0, F c1 m2, B c1 m2, W c1 m1, W c1 m2, ");
  EXPECT_EQ(names(make_schedule("interleaved_1f1b", 2, 2, 2).of_rank[1]),
            "F c1 m0, F c1 m1, F c3 m0, BW c3 m0, F c3 m1, BW c3 m1, BW c1 m0, BW c1 m1, ");
  EXPECT_EQ(names(make_schedule("dualpipev", 2, 2, 4).of_rank[1]),
            "F c1 m0, F c2 m0, F c1 m1, F c2 m1, F c1 m2, BW c2 m0, F c2 m2 + BW c1 m0, F c1 m3 + BW c2 m1, "
            "F c2 m3 + BW c1 m1, BW c2 m2, BW c1 m2, B c2 m3, B c1 m3, W c2 m3, W c1 m3, ");
}

}  // namespace
}  // namespace deepflow
