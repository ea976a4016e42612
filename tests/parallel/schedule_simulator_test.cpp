#include "parallel/schedule_simulator.h"

#include "parallel/schedule_lowering.h"
#include "parallel/schedule_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace deepflow {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Schedule some_schedule(const char* name = "1f1b", int zero = 0) { return lower(make_schedule(name, 3, 0, 5), zero); }

std::vector<Action>& list_of(Schedule& schedule, int rank) { return schedule.of_rank[static_cast<size_t>(rank)]; }

std::vector<Action>::iterator find(Schedule& schedule, int rank, const Action& action) {
  std::vector<Action>& list = list_of(schedule, rank);
  const auto it = std::find(list.begin(), list.end(), action);
  EXPECT_TRUE(it != list.end()) << name_of(action);
  return it;
}

TEST(ScheduleSimulator, CatchesARemovedSend) {
  Schedule schedule = some_schedule();
  list_of(schedule, 0).erase(find(schedule, 0, {Do::kSendF, 0, 4}));  // the last: its reader waits for ever
  EXPECT_THAT(simulate(schedule).error, StartsWith("deadlock: "));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("(F c1 m4) for message 4 from rank 0 (recv F c1 m4)"));
  schedule = some_schedule();
  list_of(schedule, 0).erase(find(schedule, 0, {Do::kSendF, 0, 1}));  // the next one arrives in its place
  EXPECT_THAT(simulate(schedule).error, HasSubstr("(recv F c1 m1): message 1 of its kind from rank 0 is another one: "
                                                  "send F c0 m2"));
}

TEST(ScheduleSimulator, CatchesSwappedReceives) {
  Schedule schedule = some_schedule();
  std::iter_swap(find(schedule, 1, {Do::kRecvF, 1, 0}), find(schedule, 1, {Do::kRecvF, 1, 1}));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("rank 1, action 0 (recv F c1 m1): message 0"));
}

TEST(ScheduleSimulator, CatchesADoubledForward) {
  Schedule schedule = some_schedule();
  const auto it = find(schedule, 2, {Do::kF, 2, 1});
  list_of(schedule, 2).insert(it, *it);
  EXPECT_THAT(simulate(schedule).error, HasSubstr("(F c2 m1): it ran before"));
}

TEST(ScheduleSimulator, CatchesWhatNeverRan) {
  for (const char* name : {"zb_h1", "zb_v"}) {
    Schedule schedule = some_schedule(name);
    list_of(schedule, 0).erase(find(schedule, 0, {Do::kW, 0, 4}));
    list_of(schedule, 0).erase(find(schedule, 0, {Do::kReduce, 0, 4}));
    EXPECT_THAT(simulate(schedule).error, HasSubstr("W c0 m4 never ran")) << name;
  }
}

TEST(ScheduleSimulator, CatchesPartsInTheWrongOrder) {
  Schedule schedule = some_schedule("zb_h1");
  std::iter_swap(find(schedule, 2, {Do::kB, 2, 0}), find(schedule, 2, {Do::kW, 2, 0}));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("(W c2 m0): W comes before B"));
  schedule = some_schedule("zb_v");
  std::iter_swap(find(schedule, 2, {Do::kF, 2, 0}), find(schedule, 2, {Do::kF, 3, 0}));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("(F c3 m0): comes before F c2 m0"));
  schedule = some_schedule();
  std::iter_swap(find(schedule, 2, {Do::kF, 2, 0}), find(schedule, 2, {Do::kBW, 2, 0}));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("backward comes before F"));
}

TEST(ScheduleSimulator, CatchesReceivesAndSendsOutOfPlace) {
  Schedule schedule = some_schedule();
  list_of(schedule, 1).erase(find(schedule, 1, {Do::kRecvB, 1, 4}));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("no receive was posted for the result of B c2 m4"));
  schedule = some_schedule();
  std::iter_swap(find(schedule, 0, {Do::kF, 0, 0}), find(schedule, 0, {Do::kSendF, 0, 0}));
  EXPECT_THAT(simulate(schedule).error, HasSubstr("rank 0, action 0 (send F c0 m0): it is sent before it was made"));
  schedule = some_schedule();
  list_of(schedule, 0).push_back({Do::kSendF, 0, 4});
  EXPECT_THAT(simulate(schedule).error, HasSubstr("it was sent before"));
  schedule = some_schedule();
  list_of(schedule, 2).push_back({Do::kSendF, 2, 0});
  EXPECT_THAT(simulate(schedule).error, HasSubstr("no neighbour on another rank"));
  schedule = some_schedule();
  list_of(schedule, 2).push_back({Do::kF, 0, 0});
  EXPECT_THAT(simulate(schedule).error, HasSubstr("chunk 0 is not on this rank"));
}

TEST(ScheduleSimulator, CatchesRanksThatWaitForEachOther) {
  // Rank 0 wants the gradient of micro-batch 0 before it sends micro-batch 1; rank 1 wants both first.
  Schedule compute;
  compute.rank_of_chunk = {0, 1};
  compute.num_micro_batches = 2;
  compute.of_rank = {{{Do::kF, 0, 0}, {Do::kBW, 0, 0}, {Do::kF, 0, 1}, {Do::kBW, 0, 1}},
                     {{Do::kF, 1, 0}, {Do::kF, 1, 1}, {Do::kBW, 1, 0}, {Do::kBW, 1, 1}}};
  EXPECT_EQ(simulate(lower(compute, 0)).error,
            "deadlock: rank 0 waits at action 3 (BW c0 m0) for message 0 from rank 1 (recv B c0 m0); "
            "rank 1 waits at action 3 (F c1 m1) for message 1 from rank 0 (recv F c1 m1)");
}

TEST(ScheduleSimulator, ChannelsAreFirstInFirstOutEvenWhereReadersAreNot) {
  // Rank 1 reads micro-batch 1 before 0: lower() receives in the order of the sends all the same.
  Schedule compute;
  compute.rank_of_chunk = {0, 1};
  compute.num_micro_batches = 4;
  for (const int m : {0, 1, 2, 3}) list_of((compute.of_rank.resize(2), compute), 0).push_back({Do::kF, 0, m});
  for (const int m : {3, 2, 1, 0}) {
    list_of(compute, 1).push_back({Do::kF, 1, m});
    list_of(compute, 1).push_back({Do::kBW, 1, m});
    list_of(compute, 0).push_back({Do::kBW, 0, 3 - m});
  }
  EXPECT_EQ(simulate(lower(compute, 0)).error, "");
}

TEST(ScheduleSimulator, CatchesParametersThatAreNotThereAndGradientsReducedTooSoon) {
  Schedule schedule = some_schedule("interleaved_1f1b", 3);
  EXPECT_EQ(simulate(schedule, {}, 3).error, "");
  list_of(schedule, 1).erase(find(schedule, 1, {Do::kGather, 1, 0}));
  EXPECT_THAT(simulate(schedule, {}, 3).error, HasSubstr("not gathered"));
  schedule = some_schedule("1f1b", 3);
  list_of(schedule, 1).erase(find(schedule, 1, {Do::kFree, 1, 0}));
  EXPECT_THAT(simulate(schedule, {}, 3).error, HasSubstr("c1 is still gathered"));
  schedule = some_schedule("1f1b", 0);
  list_of(schedule, 1).insert(find(schedule, 1, {Do::kBW, 1, 4}), {Do::kReduce, 1, 4});
  EXPECT_THAT(simulate(schedule).error, HasSubstr("(reduce c1 m4): 4 of 5 weight gradients are there"));
  EXPECT_THAT(simulate(some_schedule("1f1b", 0), {}, 2).error, HasSubstr("reductions"));
  EXPECT_THAT(simulate(some_schedule("1f1b", 2), {}, 0).error, HasSubstr("weight gradients are there"));
}

TEST(ScheduleSimulator, AForwardPassHasNoBackward) {
  Schedule forward = lower(forward_only(make_schedule("dualpipev", 3, 2, 7)), 3);
  EXPECT_EQ(simulate(forward, {}, 3, Pass::kForward).error, "");
  EXPECT_THAT(simulate(forward, {}, 3).error, HasSubstr("B c0 m0 never ran"));
  list_of(forward, 0).insert(list_of(forward, 0).end() - 1, {Do::kB, 0, 0});
  EXPECT_THAT(simulate(forward, {}, 3, Pass::kForward).error, HasSubstr("no backward part"));
  EXPECT_THAT(simulate(some_schedule(), {}, 0, Pass::kForward).error, HasSubstr("no backward part"));
}

TEST(ScheduleSimulator, TimesAreThoseOfTheCriticalPath) {
  SimulationCosts costs;
  costs.chunks = {{1, 1, 1}, {2, 3, 1}};
  costs.message = 0.5;
  const Simulation step = simulate(lower(make_schedule("1f1b", 2, 1, 1), 0), costs);
  ASSERT_EQ(step.error, "");
  // F 0-1, message until 1.5, F 1.5-3.5, BW 3.5-7.5, message until 8, BW 8-10.
  EXPECT_DOUBLE_EQ(step.times.duration(), 10);
  EXPECT_DOUBLE_EQ(step.times.busy(0), 3);
  EXPECT_DOUBLE_EQ(step.times.busy(1), 6);
  EXPECT_DOUBLE_EQ(step.times.idle_inside(0), 7);
  EXPECT_DOUBLE_EQ(step.times.idle_inside(1), 0);
  EXPECT_DOUBLE_EQ(step.times.bubble(0), 0.7);
  EXPECT_DOUBLE_EQ(step.times.bubble(), 0.55);
  const TimedAction& received = step.times.of_rank[1].front();
  EXPECT_EQ(received.action, (Action{Do::kRecvF, 1, 0}));
  EXPECT_DOUBLE_EQ(received.begin, 0);
  EXPECT_DOUBLE_EQ(received.end, 1.5);
  EXPECT_THAT(step.messages_sent, testing::ElementsAre(1, 1));
}

TEST(ScheduleSimulator, ActivationsAreHeldFromForwardToWeightGradient) {
  SimulationCosts costs;
  const Schedule schedule = lower(make_schedule("zb_h1", 4, 1, 8), 0);
  EXPECT_DOUBLE_EQ(simulate(schedule, costs).peak_activations[3], 4);
  costs.released_by_b = 0.5;  // three wait for their W, one is going forward
  EXPECT_DOUBLE_EQ(simulate(schedule, costs).peak_activations[3], 2.5);
  EXPECT_DOUBLE_EQ(simulate(schedule, costs).peak_activations[0], 4);
}

TEST(ScheduleSimulator, WovenPairsTakeTheirShareOfTheTime) {
  SimulationCosts costs;
  const Schedule schedule = lower(make_schedule("dualpipev", 2, 2, 8), 0);
  const double plain = simulate(schedule, costs).times.duration();
  costs.overlap = 0.8;
  EXPECT_LT(simulate(schedule, costs).times.duration(), plain);
}

}  // namespace
}  // namespace deepflow
