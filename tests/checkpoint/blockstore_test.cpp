#include "checkpoint/blockstore/checkpoint_folder.h"
#include "checkpoint/blockstore/state_loader.h"
#include "checkpoint/blockstore/verify.h"
#include "checkpoint/boxes.h"
#include "checkpoint/checkpointer.h"
#include "core/error.h"
#include "parallel/self_communicator.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/toy_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

namespace deepflow {
namespace {

using testing::ScratchFolder;
using testing::ToyState;
namespace fs = std::filesystem;

const ThreadPool kPool(1);

CheckpointOptions options_in(const std::string& dir) {
  CheckpointOptions o;
  o.dir = dir;
  o.every = 1;
  return o;
}

SaveReport save(Checkpointer& checkpointer, ToyState& state, int64_t step) {
  checkpointer.save(state, step, R"({"recipe": "x"})");
  std::vector<SaveReport> reports = checkpointer.reports(true);
  EXPECT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports.front().error, "");
  return reports.front();
}

TEST(Boxes, SharedRunsAreTheCommonElementsOnce) {
  const std::vector<Box> a = {{{0, 0}, {4, 6}}, {{4, 2}, {7, 5}}}, b = {{{2, 1}, {6, 4}}, {{0, 0}, {1, 6}}};
  std::vector<std::pair<int64_t, int64_t>> values_a, values_b;  // coordinates in the order of the values
  const auto list = [](const std::vector<Box>& boxes, auto& out) {
    for (const Box& box : boxes)
      for (int64_t r = box.lo[0]; r < box.hi[0]; ++r)
        for (int64_t c = box.lo[1]; c < box.hi[1]; ++c) out.emplace_back(r, c);
  };
  list(a, values_a), list(b, values_b);
  size_t shared = 0, expected = 0;
  for_each_shared_run(a, b, [&](const SharedRun& run) {
    for (int64_t i = 0; i < run.count; ++i)
      EXPECT_EQ(values_a[static_cast<size_t>(run.a + i)], values_b[static_cast<size_t>(run.b + i)]);
    shared += static_cast<size_t>(run.count);
  });
  for (const auto& at : values_a) expected += static_cast<size_t>(std::count(values_b.begin(), values_b.end(), at));
  EXPECT_EQ(shared, expected);
  EXPECT_GT(shared, 0u);
}

TEST(Boxes, WhatIsLeftAndWhatIsTakenAreTheWhole) {
  const Box box{{0, 0, 0}, {4, 5, 6}};
  for (const Box& taken : {Box{{1, 2, 3}, {2, 4, 5}}, Box{{0, 0, 0}, {4, 5, 1}}, Box{{3, 4, 5}, {9, 9, 9}}, box}) {
    const std::vector<Box> left = without(box, taken);
    EXPECT_EQ(num_elements(left) + intersection(box, taken)->num_elements(), box.num_elements());
    for (size_t i = 0; i < left.size(); ++i) {
      EXPECT_FALSE(intersection(left[i], taken));
      for (size_t k = i + 1; k < left.size(); ++k) EXPECT_FALSE(intersection(left[i], left[k]));
    }
  }
}

TEST(Boxes, PartsAreCutAlongTheFirstDimsAndCoverTheBox) {
  const Box box{{1, 0, 0}, {2, 7, 100}};
  for (const int64_t most : {1, 30, 100, 250, 10000}) {
    std::vector<Box> left = {box};
    for (const Box& part : cut(box, most)) {
      EXPECT_LE(part.num_elements(), most);
      EXPECT_EQ(num_elements(without(left, {part})), num_elements(left) - part.num_elements());
      left = without(left, {part});
    }
    EXPECT_TRUE(left.empty()) << most;
  }
}

TEST(BlockStore, GivesBackEveryByteOfEveryDtype) {
  const ScratchFolder folder;
  ToyState saved(1);
  auto self = make_self_communicator("all");
  Checkpointer first(*self, options_in(folder / "c"), kPool);
  const SaveReport report = save(first, saved, 7);
  EXPECT_EQ(report.stats.raw, saved.num_bytes());
  EXPECT_TRUE(verify_checkpoint(folder / "c/step-00000007").is_whole());

  ToyState loaded(2);
  Checkpointer second(*self, options_in(folder / "c"), kPool);
  const std::optional<Resumed> resumed = second.resume(loaded);
  ASSERT_TRUE(resumed);
  EXPECT_EQ(resumed->step, 7);
  EXPECT_EQ(resumed->run, R"({"recipe":"x"})");
  EXPECT_EQ(loaded.bytes(), saved.bytes());
  EXPECT_EQ(loaded.times_written, 1);
}

TEST(BlockStore, StoresWithEachCodecAndThreads) {
  for (const char* codec : {"raw", "zstd", "planes", "auto"})
    for (const int threads : {1, 3}) {
      const ScratchFolder folder;
      ToyState saved(3), loaded(4);
      auto self = make_self_communicator("all");
      CheckpointOptions o = options_in(folder / "c");
      o.codec = codec, o.threads = threads;
      Checkpointer checkpointer(*self, o, kPool);
      save(checkpointer, saved, 1);
      ASSERT_TRUE(Checkpointer(*self, options_in(folder / "c"), kPool).resume(loaded));
      EXPECT_EQ(loaded.bytes(), saved.bytes()) << codec;
    }
}

TEST(BlockStore, RefersToBlocksThatHaveNotChanged) {
  const ScratchFolder folder;
  ToyState state(5);
  auto self = make_self_communicator("all");
  Checkpointer checkpointer(*self, options_in(folder / "c"), kPool);
  const SaveReport whole = save(checkpointer, state, 1);
  EXPECT_EQ(whole.stats.referenced, 0);
  EXPECT_EQ(save(checkpointer, state, 2).stats.stored, 0);
  state.change("frozen", 0);  // nothing
  state.change("weights", 1);
  const SaveReport changed = save(checkpointer, state, 3);
  EXPECT_EQ(changed.stats.raw - changed.stats.referenced, 1023 * 513 * 4);
  EXPECT_GT(changed.stats.stored, 0);
  EXPECT_TRUE(verify_checkpoint(folder / "c/step-00000003").is_whole());

  // Also a run that begins from it.
  ToyState again(6);
  Checkpointer second(*self, options_in(folder / "c"), kPool);
  ASSERT_TRUE(second.resume(again));
  EXPECT_EQ(save(second, again, 4).stats.stored, 0);
}

TEST(BlockStore, RefersToNoFileThatHasLostItsHeader) {
  const ScratchFolder folder;
  ToyState state(5);
  auto self = make_self_communicator("all");
  Checkpointer checkpointer(*self, options_in(folder / "c"), kPool);
  save(checkpointer, state, 1);
  {
    std::fstream file(folder / "c/step-00000001/data-00000", std::ios::in | std::ios::out | std::ios::binary);
    file.put('d');
  }
  const SaveReport anew = save(checkpointer, state, 2);
  EXPECT_EQ(anew.stats.referenced, 0);
  EXPECT_TRUE(verify_checkpoint(folder / "c/step-00000002").is_whole());
}

TEST(BlockStore, StoresDifferencesWhereTheyAreSmaller) {
  const ScratchFolder folder;
  ToyState state(7), loaded(8);
  auto self = make_self_communicator("all");
  CheckpointOptions o = options_in(folder / "c");
  o.keep = 0;
  Checkpointer checkpointer(*self, o, kPool);
  const SaveReport whole = save(checkpointer, state, 1);
  for (int64_t step = 2; step < 5; ++step) {
    state.nudge("weights");
    const SaveReport next = save(checkpointer, state, step);
    EXPECT_GT(next.stats.differences, 0);
    EXPECT_LT(next.stats.stored, whole.stats.stored / 4);
    EXPECT_TRUE(verify_checkpoint(folder / step_folder_name(step).insert(0, "c/")).is_whole());
  }
  ASSERT_TRUE(Checkpointer(*self, o, kPool).resume(loaded));
  EXPECT_EQ(loaded.bytes(), state.bytes());
}

TEST(BlockStore, KeepsWhatRemainingCheckpointsReferTo) {
  const ScratchFolder folder;
  ToyState state(9), loaded(10);
  auto self = make_self_communicator("all");
  CheckpointOptions o = options_in(folder / "c");
  o.keep = 1;
  {
    Checkpointer checkpointer(*self, o, kPool);
    for (int64_t step = 1; step < 6; ++step) {
      state.change("weights", static_cast<unsigned>(step));
      save(checkpointer, state, step);
    }
  }
  const std::vector<FoundCheckpoint> left = list_checkpoints(folder / "c");
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left.front().step, 5);
  EXPECT_TRUE(fs::exists(folder / "c/step-00000001/data-00000"));  // the frozen weights
  EXPECT_FALSE(fs::exists(folder / "c/step-00000003"));
  EXPECT_TRUE(verify_checkpoint(left.front().path).is_whole());
  EXPECT_EQ(fs::read_symlink(folder / "c/latest"), "step-00000005");
  ASSERT_TRUE(Checkpointer(*self, o, kPool).resume(loaded));
  EXPECT_EQ(loaded.bytes(), state.bytes());
}

TEST(BlockStore, KeepsEveryNthBesides) {
  const ScratchFolder folder;
  ToyState state(11);
  auto self = make_self_communicator("all");
  CheckpointOptions o = options_in(folder / "c");
  o.keep = 2, o.keep_every = 3;
  Checkpointer checkpointer(*self, o, kPool);
  for (int64_t step = 1; step < 9; ++step) save(checkpointer, state, step);
  std::vector<int64_t> steps;
  for (const FoundCheckpoint& c : list_checkpoints(folder / "c")) steps.push_back(c.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{3, 6, 7, 8}));
}

TEST(BlockStore, PassesByWhatIsDamagedAndSaysWhatIsLost) {
  const ScratchFolder folder;
  ToyState state(12), loaded(13);
  auto self = make_self_communicator("all");
  CheckpointOptions o = options_in(folder / "c");
  o.differences = false;
  Checkpointer checkpointer(*self, o, kPool);
  save(checkpointer, state, 1);
  const std::vector<char> before = state.bytes();
  state.change_all(1);
  save(checkpointer, state, 2);
  {
    std::fstream file(folder / "c/step-00000002/data-00000", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(400'000);
    file.put('\x55');
  }
  const VerifyReport report = verify_checkpoint(folder / "c/step-00000002");
  ASSERT_EQ(report.damages.size(), 1u);
  EXPECT_NE(report.damages.front().find("data-00000 at byte"), std::string::npos) << report.damages.front();
  EXPECT_NE(report.damages.front().find("; elements "), std::string::npos) << report.damages.front();
  o.resume = folder / "c/step-00000002";
  EXPECT_THROW(Checkpointer(*self, o, kPool).resume(loaded), DataError);
  o.resume = "auto";
  const std::optional<Resumed> resumed = Checkpointer(*self, o, kPool).resume(loaded);
  ASSERT_TRUE(resumed);
  EXPECT_EQ(resumed->step, 1);
  EXPECT_EQ(resumed->passed_by.size(), 1u);
  EXPECT_EQ(loaded.bytes(), before);
  EXPECT_TRUE(fs::exists(folder / "c/step-00000002.damaged"));
  EXPECT_EQ(list_checkpoints(folder / "c").size(), 1u);
  fs::resize_file(folder / "c/step-00000001/data-00000", 1000);
  EXPECT_THROW(Checkpointer(*self, o, kPool).resume(loaded), DataError);
  EXPECT_TRUE(fs::exists(folder / "c/step-00000001"));  // nothing is set aside for nothing
}

TEST(BlockStore, RefusesToBeginBehindNewerCheckpoints) {
  const ScratchFolder folder;
  ToyState state(18);
  auto self = make_self_communicator("all");
  CheckpointOptions o = options_in(folder / "c");
  o.keep = 0;
  {
    Checkpointer checkpointer(*self, o, kPool);
    for (int64_t step = 1; step < 3; ++step) save(checkpointer, state, step);
  }
  o.resume = "never";
  EXPECT_THROW(Checkpointer(*self, o, kPool).resume(state), ConfigError);
  o.resume = folder / "c/step-00000001";
  EXPECT_THROW(Checkpointer(*self, o, kPool).resume(state), ConfigError);
  o.dir = folder / "other";
  EXPECT_EQ(Checkpointer(*self, o, kPool).resume(state)->step, 1);
  o.resume = folder / "nothing";
  EXPECT_THROW(Checkpointer(*self, o, kPool).resume(state), ConfigError);
}

TEST(BlockStore, RefusesTheStateOfAnotherModel) {
  const ScratchFolder folder;
  ToyState state(14);
  auto self = make_self_communicator("all");
  Checkpointer checkpointer(*self, options_in(folder / "c"), kPool);
  save(checkpointer, state, 1);
  ToyState other(15);
  other.rename("frozen", "melted");
  try {
    Checkpointer(*self, options_in(folder / "c"), kPool).resume(other);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("missing: melted; not of this run: frozen"), std::string::npos) << e.what();
  }
}

TEST(BlockStore, ASaveThatFailsLeavesTheOlderOne) {
  const ScratchFolder folder;
  ToyState state(16), loaded(17);
  auto self = make_self_communicator("all");
  Checkpointer checkpointer(*self, options_in(folder / "c"), kPool);
  save(checkpointer, state, 1);
  const std::vector<char> before = state.bytes();
  state.change_all(1);
  fs::rename(folder / "c", folder / "moved");
  folder.write("c", "no folder");  // and so nothing can be made in it
  checkpointer.save(state, 2, "{}");
  const std::vector<SaveReport> reports = checkpointer.reports(true);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_NE(reports.front().error.find("step-00000002.writing"), std::string::npos) << reports.front().error;
  fs::remove(folder / "c");
  fs::rename(folder / "moved", folder / "c");
  ASSERT_TRUE(Checkpointer(*self, options_in(folder / "c"), kPool).resume(loaded));
  EXPECT_EQ(loaded.bytes(), before);
}

// A plan for ranks that hold rows of one matrix twice, a vector everywhere, and overlapping parts.
TEST(SavePlan, WritesEveryElementOnceAndSpreadsTheBytes) {
  const Shape matrix{4096, 256}, vector{256};
  std::vector<std::vector<HeldEntry>> ranks(4);
  for (int64_t r = 0; r < 4; ++r) {
    const int64_t half = r % 2;
    auto& mine = ranks[static_cast<size_t>(r)];
    mine.push_back({"m", DType::kF32, matrix, Reshard::kSlice, 0, {{{half * 2048, 0}, {half * 2048 + 2048, 256}}}});
    mine.push_back({"v", DType::kF32, vector, Reshard::kReplicated, 0, {{{0}, {256}}}});
    mine.push_back({"o", DType::kBF16, matrix, Reshard::kSlice, 0, {{{r * 1000, 0}, {r * 1000 + 1096, 256}}}});
    mine.push_back({"s", DType::kF32, vector, Reshard::kSum, static_cast<int>(r), {{{0}, {256}}}});
  }
  const SavePlan plan = plan_save(ranks, 2);
  std::map<std::pair<std::string, int>, std::vector<Box>> left;
  for (const StoredTensor& t : plan.tensors)
    for (int c = 0; c < (t.name == "s" ? 4 : 1); ++c) {
      Box whole;
      for (const int64_t extent : t.shape) whole.lo.push_back(0), whole.hi.push_back(extent);
      left[{t.name, c}] = {whole};
    }
  for (const PlannedSlice& s : plan.slices) {
    std::vector<Box>& rest = left[{plan.tensors[s.tensor].name, s.contributor}];
    EXPECT_EQ(num_elements(without(rest, {s.box})), num_elements(rest) - s.box.num_elements());
    rest = without(rest, {s.box});
    const HeldEntry& e = ranks[static_cast<size_t>(s.writer / 2)][s.entry];
    EXPECT_EQ(e.name, plan.tensors[s.tensor].name);
    EXPECT_TRUE(without(s.box, e.boxes.front()).empty());
  }
  for (const auto& rest : left) EXPECT_TRUE(rest.second.empty()) << rest.first.first;
  const int64_t total = 4096 * 256 * 6 + 256 * 4 * 5;
  for (int r = 0; r < 4; ++r) EXPECT_NEAR(plan.bytes_of_rank(r, 2), total / 4, total / 20) << r;
}

}  // namespace
}  // namespace deepflow
