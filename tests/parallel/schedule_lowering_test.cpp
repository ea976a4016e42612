#include "parallel/schedule_lowering.h"

#include "parallel/schedule_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace deepflow {
namespace {

std::string names(const std::vector<Action>& list) {
  std::string text;
  for (const Action& action : list) text += (text.empty() ? "" : ", ") + name_of(action);
  return text;
}

size_t count(const std::vector<Action>& list, Do what) {
  return static_cast<size_t>(std::count_if(list.begin(), list.end(), [&](const Action& a) { return a.what == what; }));
}

TEST(ScheduleLowering, ListsOfAPairOfRanks) {
  const Schedule lowered = lower(make_schedule("1f1b", 2, 1, 2), 0);
  EXPECT_EQ(names(lowered.of_rank[0]),
            "F c0 m0, send F c0 m0, recv B c0 m0, F c0 m1, send F c0 m1, recv B c0 m1, BW c0 m0, BW c0 m1, "
            "reduce c0 m1");
  EXPECT_EQ(names(lowered.of_rank[1]),
            "recv F c1 m0, recv F c1 m1, F c1 m0, BW c1 m0, send B c1 m0, F c1 m1, BW c1 m1, send B c1 m1, "
            "reduce c1 m1");
}

TEST(ScheduleLowering, ComputeActionsStayInTheirOrder) {
  for (const ScheduleKind& kind : schedule_kinds()) {
    const Schedule compute = make_schedule(kind.name, 4, 0, 9), lowered = lower(compute, 3);
    for (size_t r = 0; r < 4; ++r) {
      std::vector<Action> left;
      for (const Action& a : lowered.of_rank[r])
        if (is_compute(a.what)) left.push_back(a);
      EXPECT_EQ(left, compute.of_rank[r]) << kind.name;
    }
  }
}

// The reader of a received tensor: the compute action of the same chunk and micro-batch.
bool reads(const Action& compute, const Action& receive) {
  for (const ComputePart& part : parts_of(compute))
    if (part.chunk == receive.chunk && part.micro_batch == receive.micro_batch)
      if (receive.what == Do::kRecvF ? part.f : part.b) return true;
  return false;
}

TEST(ScheduleLowering, ReceivesArePostedAheadOfTheirUse) {
  for (const ScheduleKind& kind : schedule_kinds()) {
    const Schedule lowered = lower(make_schedule(kind.name, 4, 0, 12), 0);
    for (const std::vector<Action>& list : lowered.of_rank)
      for (size_t i = 0; i < list.size(); ++i) {
        if (list[i].what != Do::kRecvF && list[i].what != Do::kRecvB) continue;
        int computes = 0;
        size_t j = i + 1;
        for (; j < list.size() && !reads(list[j], list[i]); ++j) computes += is_compute(list[j].what);
        ASSERT_LT(j, list.size()) << kind.name << " " << name_of(list[i]);
        // Only nothing comes before the first receive, and a gradient may follow its forward at once.
        size_t earlier = 0;
        for (size_t k = 0; k < j; ++k) earlier += is_compute(list[k].what);
        const bool follows_own_forward = list[i].what == Do::kRecvB && computes == 0;
        EXPECT_TRUE(computes >= 1 || earlier == 0 || follows_own_forward) << kind.name << " " << name_of(list[i]);
      }
  }
}

TEST(ScheduleLowering, NoMoreReceivesWaitThanThereAreBuffers) {
  for (const int buffers : {1, 2, 4}) {
    LowerLimits limits;
    limits.receive_buffers = buffers;
    for (const ScheduleKind& kind : schedule_kinds()) {
      const Schedule lowered = lower(make_schedule(kind.name, 4, 0, 12), 0, limits);
      for (const std::vector<Action>& list : lowered.of_rank) {
        std::map<std::pair<int, bool>, int> waiting;  // by the sender and the kind
        std::vector<Action> open;
        for (const Action& action : list) {
          if (action.what == Do::kRecvF || action.what == Do::kRecvB) {
            const Channel channel = channel_of(lowered, action);
            EXPECT_LE(++waiting[std::make_pair(channel.from, channel.backward)], buffers) << kind.name;
            open.push_back(action);
          }
          for (auto it = open.begin(); it != open.end();) {
            const bool read = reads(action, *it);
            if (read) {
              const Channel channel = channel_of(lowered, *it);
              --waiting[std::make_pair(channel.from, channel.backward)];
            }
            it = read ? open.erase(it) : it + 1;
          }
        }
        EXPECT_TRUE(open.empty());
      }
    }
  }
}

TEST(ScheduleLowering, NeighboursOnOneRankNeedNoMessage) {
  const Schedule lowered = lower(make_schedule("zb_v", 3, 2, 4), 0);
  EXPECT_EQ(count(lowered.of_rank[2], Do::kSendF), 4u);  // chunk 3 to rank 1; chunk 2 hands over to 3
  EXPECT_EQ(count(lowered.of_rank[2], Do::kSendB), 4u);  // chunk 2 to rank 1
  EXPECT_EQ(count(lowered.of_rank[1], Do::kSendF), 8u);
  const Schedule alone = lower(make_schedule("interleaved_1f1b", 1, 3, 4), 0);
  EXPECT_EQ(count(alone.of_rank[0], Do::kSendF) + count(alone.of_rank[0], Do::kRecvB), 0u);
}

TEST(ScheduleLowering, ChannelsAreThoseOfThePlacement) {
  const std::vector<Channel> line = channels_of(make_schedule("1f1b", 3, 1, 1));
  EXPECT_THAT(
      line, testing::ElementsAre(Channel{0, 1, false}, Channel{1, 0, true}, Channel{1, 2, false}, Channel{2, 1, true}));
  EXPECT_EQ(channels_of(make_schedule("zb_v", 3, 2, 1)).size(), 8u);
  EXPECT_EQ(channels_of(make_schedule("interleaved_1f1b", 3, 2, 1)).size(), 6u);
  EXPECT_TRUE(channels_of(make_schedule("gpipe", 1, 1, 1)).empty());
}

TEST(ScheduleLowering, GradientsAreReducedOncePerStepOrPerMicroBatch) {
  for (const ScheduleKind& kind : schedule_kinds()) {
    const Schedule compute = make_schedule(kind.name, 2, 0, 6);
    const size_t chunks = compute.chunks_of(0).size();
    EXPECT_EQ(count(lower(compute, 1).of_rank[0], Do::kReduce), chunks) << kind.name;
    EXPECT_EQ(count(lower(compute, 2).of_rank[0], Do::kReduce), 6 * chunks) << kind.name;
    EXPECT_EQ(count(lower(compute, 2).of_rank[0], Do::kGather), 0u) << kind.name;
  }
}

TEST(ScheduleLowering, ParametersAreGatheredAChunkAheadAndNoMoreThanTheLimit) {
  EXPECT_EQ(names(lower(make_schedule("1f1b", 1, 1, 1), 3).of_rank[0]),
            "gather c0, F c0 m0, BW c0 m0, reduce c0 m0, "
            "free c0");
  EXPECT_EQ(names(lower(make_schedule("interleaved_1f1b", 1, 3, 1), 3).of_rank[0]),
            "gather c0, gather c1, F c0 m0, free c0, gather c2, F c1 m0, F c2 m0, BW c2 m0, reduce c2 m0, free c2, "
            "gather c0, BW c1 m0, reduce c1 m0, free c1, BW c0 m0, reduce c0 m0, free c0");
  for (const int limit : {1, 2, 3}) {
    LowerLimits limits;
    limits.gathered_chunks = limit;
    int gathered = 0, most = 0;
    const Schedule lowered = lower(make_schedule("interleaved_1f1b", 2, 4, 8), 3, limits);
    for (const Action& action : lowered.of_rank[0]) {
      gathered += action.what == Do::kGather ? 1 : action.what == Do::kFree ? -1 : 0;
      most = std::max(most, gathered);
    }
    EXPECT_EQ(most, limit);
    EXPECT_EQ(gathered, 0);
  }
}

}  // namespace
}  // namespace deepflow
