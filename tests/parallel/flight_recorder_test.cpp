#include "parallel/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using State = FlightRecorder::State;

TEST(FlightRecorder, NumbersCollectivesApartFromBatches) {
  FlightRecorder recorder("dp");
  EXPECT_EQ(recorder.queued(CommKind::kAllReduce, "a", 4).number, 0);
  EXPECT_EQ(recorder.queued(CommKind::kBatch, "b", 4).number, 0);
  EXPECT_EQ(recorder.queued(CommKind::kAllGather, "c", 4).number, 1);
  EXPECT_EQ(recorder.queued(CommKind::kBatch, "d", 4).ticket, 3);
}

TEST(FlightRecorder, KeepsTheLatest) {
  FlightRecorder recorder("dp", 4);
  for (int i = 0; i < 10; ++i) recorder.queued(CommKind::kBarrier, std::to_string(i), 0);
  recorder.mark(0, State::kDone);  // long overwritten
  recorder.mark(8, State::kBegun);
  const auto entries = recorder.entries();
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries.front().name, "6");
  EXPECT_EQ(entries.back().number, 9);
  EXPECT_EQ(entries[2].state, State::kBegun);
  EXPECT_EQ(entries[3].state, State::kQueued);
}

TEST(FlightRecorder, ReportsWhatHappened) {
  FlightRecorder recorder("dp");
  recorder.mark(recorder.queued(CommKind::kAllReduce, "layers.7", 4096).ticket, State::kBegun);
  recorder.mark(recorder.queued(CommKind::kBroadcast, "seed", 8).ticket, State::kFailed);
  EXPECT_THAT(recorder.report(), testing::AllOf(testing::StartsWith("`dp` #0 all_reduce `layers.7` 4096 bytes, begun"),
                                                testing::HasSubstr("\n`dp` #1 broadcast `seed` 8 bytes, failed")));
}

}  // namespace
}  // namespace deepflow
