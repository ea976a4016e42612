#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/compare.h"
#include "checkpoint/blockstore/contents.h"
#include "checkpoint/blockstore/find_checkpoint.h"
#include "checkpoint/blockstore/new_checkpoint.h"
#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/blockstore/value_statistics.h"
#include "checkpoint/blockstore/verify.h"
#include "checkpoint/checkpointer.h"
#include "core/error.h"
#include "parallel/self_communicator.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/toy_state.h"
#include "tests/core/error_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

namespace deepflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ScratchFolder;
using testing::ToyState;
namespace fs = std::filesystem;

const ThreadPool kPool(2);

using testing::error_of;

// A run of some saves, all of which stay.
class ToyRun {
 public:
  explicit ToyRun(const std::string& dir) : self_(make_self_communicator("all")) {
    options_.dir = dir;
    options_.every = 1;
    options_.keep = 0;
    checkpointer_ = std::make_unique<Checkpointer>(*self_, options_, kPool);
  }
  std::string save(ToyState& state, int64_t step, const std::string& run = "{}") {
    checkpointer_->save(state, step, run);
    const SaveReport report = checkpointer_->reports(true).at(0);
    EXPECT_EQ(report.error, "");
    return report.path;
  }

 private:
  std::unique_ptr<Communicator> self_;
  CheckpointOptions options_;
  std::unique_ptr<Checkpointer> checkpointer_;
};

TEST(CkptContents, CountsBytesAndBlocksOnceAndTellsWhatIsShared) {
  const ScratchFolder folder;
  ToyState state(1);
  ToyRun run(folder / "c");
  const StoredCheckpoint first(run.save(state, 1));
  state.change("weights", 2);
  const StoredCheckpoint second(run.save(state, 2));
  const StoredSize a = stored_size(first), b = stored_size(second);
  EXPECT_EQ(a.raw, state.num_bytes());
  EXPECT_EQ(b.raw, state.num_bytes());
  EXPECT_EQ(a.shared, 0);
  EXPECT_EQ(a.own + 16, static_cast<int64_t>(fs::file_size(first.path() + "/data-00000")));
  EXPECT_EQ(b.own + 16, static_cast<int64_t>(fs::file_size(second.path() + "/data-00000")));
  const StoredTensor& frozen = *second.manifest().find("frozen");
  EXPECT_EQ(stored_size(second, frozen).own, 0);
  EXPECT_EQ(stored_size(second, frozen).shared, stored_size(first, *first.manifest().find("frozen")).own);
  EXPECT_THAT(codecs_text(stored_size(second, frozen)), HasSubstr("planes "));
  EXPECT_EQ(state_kind("adamw.m/layers.0.norm"), "adamw.m");
  EXPECT_EQ(state_kind("step"), "step");
}

TEST(CkptStatistics, AreThoseOfTheFiniteValues) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1, -3, 0, std::nanf(""), 4, inf, -inf, 0, 2.5f};
  ValueStatistics s;
  for (const size_t cut : {size_t{0}, size_t{4}}) {  // in two parts
    const size_t end = cut == 0 ? 4 : values.size();
    s.add({reinterpret_cast<const char*>(values.data() + cut), (end - cut) * sizeof(float)}, DType::kF32);
  }
  EXPECT_EQ(s.elements, 9);
  EXPECT_EQ(s.nan, 1);
  EXPECT_EQ(s.infinite, 2);
  EXPECT_EQ(s.zeros, 2);
  EXPECT_EQ(s.min, -3);
  EXPECT_EQ(s.max, 4);
  EXPECT_NEAR(s.mean, 4.5 / 6, 1e-12);
  EXPECT_NEAR(s.deviation(), std::sqrt((1 + 9 + 16 + 6.25) / 6 - 0.75 * 0.75), 1e-12);
}

TEST(CkptStatistics, ReadOnlyTheBlocksOfTheTensor) {
  const ScratchFolder folder;
  ToyState state(3);
  const StoredCheckpoint checkpoint(ToyRun(folder / "c").save(state, 1));
  const StoredTensor& half = *checkpoint.manifest().find("half");
  TensorReader reader(checkpoint);
  EXPECT_NEAR(value_statistics(reader, half).deviation(), 0.02, 0.001);
  EXPECT_EQ(reader.bytes_read(), stored_size(checkpoint, half).own);
}

TEST(CkptDiff, FindsEveryDifferenceAndItsSize) {
  const ScratchFolder folder;
  ToyState state(4);
  const StoredCheckpoint a(ToyRun(folder / "a").save(state, 1)), same(ToyRun(folder / "same").save(state, 1));
  EXPECT_TRUE(compare_checkpoints(a, same, kPool).is_same());
  state.nudge("weights");
  state.rename("bias", "renamed");
  const StoredCheckpoint b(ToyRun(folder / "b").save(state, 1));
  const Comparison c = compare_checkpoints(a, b, kPool);
  EXPECT_THAT(c.only_in_a, ElementsAre("bias"));
  EXPECT_THAT(c.only_in_b, ElementsAre("renamed"));
  ASSERT_EQ(c.different.size(), 1u);
  const TensorDifference& d = c.different.front();
  EXPECT_EQ(d.name, "weights");
  EXPECT_EQ(d.elements, 1023 * 513);
  EXPECT_EQ(d.different, d.elements - (d.elements + 2) / 3) << "one in three stays";
  EXPECT_GT(d.absolute, 0);
  EXPECT_LT(d.absolute, 1e-7);
  EXPECT_LT(d.relative, 1e-6);
  EXPECT_TRUE(compare_checkpoints(a, b, kPool, "frozen").is_same());
}

TEST(CkptReshard, GivesTheSameValuesInAnyNumberOfFilesWithoutReferences) {
  const ScratchFolder folder;
  ToyState state(5);
  ToyRun run(folder / "c");
  run.save(state, 1);
  state.nudge("weights");
  const StoredCheckpoint from(run.save(state, 2, R"({"recipe": "x"})"));
  ASSERT_GT(stored_size(from).shared, 0);
  for (const int writers : {1, 3, 8}) {
    TensorReader reader(from, &kPool);
    NewCheckpointOptions how;
    how.writers = writers;
    const std::string out = folder / fmt::format("out{}", writers);
    const NewCheckpoint made = write_new_checkpoint(out, content_of(from, reader), how);
    EXPECT_EQ(made.path, out + "/step-00000002");
    EXPECT_TRUE(verify_checkpoint(made.path).is_whole());
    const StoredCheckpoint to(made.path);
    EXPECT_TRUE(compare_checkpoints(from, to, kPool).is_same());
    EXPECT_EQ(to.manifest().run, from.manifest().run);
    EXPECT_EQ(to.manifest().files.size(), static_cast<size_t>(writers));
    EXPECT_EQ(stored_size(to).shared, 0);
    EXPECT_THAT(error_of([&] { write_new_checkpoint(out, content_of(from, reader), how); }),
                HasSubstr("holds checkpoints already"));
  }
}

TEST(CkptReshard, WhatFailsItsCheckIsNeverCommitted) {
  const ScratchFolder folder;
  ToyState state(6);
  const StoredCheckpoint from(ToyRun(folder / "c").save(state, 1));
  TensorReader reader(from);
  NewCheckpointOptions how;
  how.check = [](const StoredCheckpoint&) { throw DataError("not the same"); };
  EXPECT_EQ(error_of([&] { write_new_checkpoint(folder / "out", content_of(from, reader), how); }), "not the same");
  EXPECT_TRUE(fs::is_empty(folder / "out"));
}

TEST(CkptLossy, BlocksAreWholeAsTheyComeBackAndTheManifestSaysIt) {
  const ScratchFolder folder;
  ToyState state(7), into(8);
  const StoredCheckpoint from(ToyRun(folder / "c").save(state, 1));
  for (const CodecId codec : {CodecId::kNf4, CodecId::kInt8}) {
    TensorReader reader(from);
    CheckpointContent content = content_of(from, reader);
    content.run = fmt::format(R"({{"lossy": "{}"}})", name_of(codec));
    NewCheckpointOptions how;
    how.codec = [codec](const StoredTensor&, std::span<const char>) { return codec; };
    const std::string out = folder / name_of(codec);
    const StoredCheckpoint to(write_new_checkpoint(out, content, how).path);
    EXPECT_EQ(to.manifest().lossy(), name_of(codec));
    EXPECT_TRUE(verify_checkpoint(to.path()).is_whole());
    const Comparison c = compare_checkpoints(from, to, kPool);
    EXPECT_FALSE(c.is_same());
    for (const TensorDifference& d : c.different)
      EXPECT_LT(d.absolute, codec == CodecId::kNf4 ? 0.02 : 0.001) << d.name;

    auto self = make_self_communicator("all");
    CheckpointOptions options;
    options.dir = folder / "new";
    options.resume = to.path();
    EXPECT_THAT(error_of([&] { Checkpointer(*self, options, kPool).resume(into); }),
                HasSubstr(fmt::format("is a lossy export ({})", name_of(codec))));
  }
  EXPECT_EQ(from.manifest().lossy(), "");
}

TEST(CkptVerify, SaysTheSameWithAnyNumberOfThreads) {
  const ScratchFolder folder;
  ToyState state(9);
  const std::string path = ToyRun(folder / "c").save(state, 1);
  const auto size = static_cast<int64_t>(fs::file_size(path + "/data-00000"));
  for (const int64_t at : {int64_t{1000}, size / 3, size / 2, size - 5}) {
    std::fstream file(path + "/data-00000", std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const auto byte = static_cast<char>(file.get() ^ 1);
    file.seekp(at);
    file.put(byte);
  }
  const VerifyReport one = verify_checkpoint(path);
  EXPECT_EQ(one.damages.size(), 4u);
  for (const int threads : {2, 5}) {
    const ThreadPool pool(threads);
    const VerifyReport many = verify_checkpoint(path, 100, &pool);
    EXPECT_EQ(many.damages, one.damages);
    EXPECT_EQ(many.blocks, one.blocks);
    EXPECT_EQ(many.bytes_read, one.bytes_read);
  }
  EXPECT_EQ(verify_checkpoint(path, 2, &kPool).damages.size(), 2u);
}

TEST(CkptFind, TakesWhatIsMeantAndSaysWhatIsThereInstead) {
  const ScratchFolder folder;
  ToyState state(10);
  ToyRun run(folder / "run/checkpoints");
  run.save(state, 1);
  const std::string newest = run.save(state, 12);
  EXPECT_EQ(find_checkpoint(folder / "run"), newest);
  EXPECT_EQ(find_checkpoint(folder / "run/checkpoints"), newest);
  EXPECT_EQ(find_checkpoint(newest), newest);
  fs::create_directory(folder / "empty");
  EXPECT_THAT(error_of([&] { find_checkpoint(folder / "nowhere"); }), HasSubstr("is no folder"));
  EXPECT_THAT(error_of([&] { find_checkpoint(folder / "empty"); }), HasSubstr("holds no checkpoint"));
  EXPECT_TRUE(list_leftovers(folder / "run/checkpoints").empty());

  fs::remove(newest + "/commit");
  EXPECT_THAT(error_of([&] { find_checkpoint(newest); }), HasSubstr("has no commit record"));
  fs::create_directory(newest + ".writing");
  fs::create_directory(newest + ".damaged");
  const std::vector<Leftover> left = list_leftovers(folder / "run/checkpoints");
  ASSERT_EQ(left.size(), 3u);
  EXPECT_THAT(left[0].what, HasSubstr("refer to its blocks"));
  EXPECT_EQ(left[1].what, "damaged, set aside");
  EXPECT_EQ(left[2].what, "unfinished");
}

}  // namespace
}  // namespace deepflow
