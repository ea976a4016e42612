#include "checkpoint/checkpointer.h"
#include "tests/checkpoint/shared_scratch.h"
#include "tests/engine/logical_state.h"
#include "tests/engine/resumed_pair.h"
#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

#include <set>

namespace deepflow {
namespace {

using namespace testing;

Communicator& world() { return test_world().all(); }

constexpr uint64_t kSeed = 1;
constexpr int kSteps = 5;

int64_t pairs_of(int ranks) { return ranks == 8 ? 12 : 20; }

TEST(CheckpointLayouts, ACheckpointOfOneGoesOnOnAnother) {
  for (int64_t i = 0; i < pairs_of(world().size()); ++i) {
    const LayoutPair pair = draw_pair(kSeed, i, world().size(), kSteps);
    SCOPED_TRACE(fmt::format("pair {}: {}", i, pair.text));
    const SharedScratch folder(world());
    const ResumedPair done = run_pair(pair, world(), folder / "c");
    EXPECT_EQ(done.faults, std::vector<std::string>());
    if (world().rank() != 0) continue;
    const Apart apart = compare(done.course, done.expected);
    EXPECT_TRUE(apart.is_small()) << apart.text();
    if (pair.first.train.precision != "f32") {
      EXPECT_EQ(done.course.curve, done.expected.curve);
    }
  }
}

TEST(CheckpointLayouts, PairsAreDrawnOverEveryStrategyAndOptimizer) {
  std::set<std::string> seen;
  for (const int ranks : {2, 4, 8})
    for (int64_t i = 0; i < 100; ++i) {
      const LayoutPair pair = draw_pair(kSeed, i, ranks, kSteps);
      const TinyOptions &a = pair.first, &b = pair.second;
      const ParallelOptions &p = a.parallel, &q = b.parallel;
      EXPECT_EQ(p.dp * p.tp * p.cp * p.pp, pair.first_ranks) << pair.text;
      EXPECT_EQ(q.dp * q.tp * q.cp * q.pp, pair.second_ranks) << pair.text;
      const auto see = [&](bool condition, const std::string& what) {
        if (condition) seen.insert(what);
      };
      see(p.tp != q.tp && p.tp * q.tp > 1, a.optim.name + " other tp");
      see(p.zero > 0 && q.zero > 0 && p.dp != q.dp, a.optim.name + " other shards");
      see(p.pp != q.pp, "other pp");
      see(p.cp != q.cp, "other cp");
      see(p.ep != q.ep, "other ep");
      see(p.etp != q.etp, "other etp");
      see(p.zero != q.zero, "other zero");
      see(a.tied && p.pp > 1 && q.pp == 1, "embedding of two stages");
      see(pair.first_ranks != pair.second_ranks, "other ranks");
      see(true, a.family);
      see(true, a.train.precision);
      see(a.optim.name == "adamw8bit" && (p.ep > 1 || q.ep > 1), "8-bit experts");
      see(a.family == "deepseek_v3" && a.balance.bias_rate > 0, "biases of routers");
    }
  for (const std::string& optimizer : optimizer_names())
    for (const char* what : {" other tp", " other shards"}) EXPECT_TRUE(seen.count(optimizer + what)) << optimizer;
  for (const char* what :
       {"other pp",    "other cp",    "other ep", "other etp", "other zero",    "embedding of two stages",
        "other ranks", "f32",         "f16",      "bf16",      "8-bit experts", "biases of routers",
        "llama",       "gpt2",        "qwen2",    "qwen3",     "gemma2",        "mixtral",
        "deepseek_v2", "deepseek_v3", "mtp",      "mtp_moe"})
    EXPECT_TRUE(seen.count(what)) << what;
}

// What is drawn has tensors of one block.
TEST(CheckpointLayouts, TensorsOfManyBlocksGoOnOnAnother) {
  const int n = world().size();
  for (const std::string family : {"llama", "mixtral"}) {
    LayoutPair pair;
    pair.first_ranks = pair.second_ranks = n;
    pair.steps_before = 2;
    ParallelOptions &p = pair.first.parallel, &q = pair.second.parallel;
    p.tp = 2, p.dp = n / 2, q.dp = n, q.zero = 3;
    if (family == "mixtral") p.ep = p.dp, p.etp = 2, q.ep = 2;
    for (TinyOptions* o : {&pair.first, &pair.second}) {
      o->family = family;
      o->width = 64, o->ffn = 2304, o->experts = 4, o->sequence = 8;
      o->init_std = 0.1f, o->optim.lr = 1e-3, o->optim.eps = 1e-6;
    }
    pair.second.initial_seed = 99;
    SCOPED_TRACE(family);
    const SharedScratch folder(world());
    const ResumedPair done = run_pair(pair, world(), folder / "c");
    EXPECT_EQ(done.faults, std::vector<std::string>());
    if (world().rank() != 0) continue;
    const Apart apart = compare(done.course, done.expected);
    EXPECT_TRUE(apart.is_small()) << apart.text();
  }
}

struct End {
  std::vector<double> curve;
  std::vector<SavedEntry> state;
};

End train_to_the_end(TinyRun& run, int steps) {
  End end;
  end.curve = take_course(run, steps).curve;
  end.state = save_state(run.trainer());
  return end;
}

void expect_the_same_bits(const End& got, const End& whole) {
  const std::vector<double> rest(whole.curve.end() - static_cast<std::ptrdiff_t>(got.curve.size()), whole.curve.end());
  EXPECT_EQ(got.curve, rest);
  ASSERT_EQ(got.state.size(), whole.state.size());
  for (size_t i = 0; i < got.state.size(); ++i)
    EXPECT_TRUE(got.state[i].bytes == whole.state[i].bytes) << got.state[i].entry.name;
}

CheckpointOptions keep_all_in(const std::string& dir) {
  CheckpointOptions o;
  o.dir = dir;
  o.every = 1;
  o.keep = 0;
  return o;
}

// Saves while it trains, of which its own curve must not tell.
std::vector<double> train_and_save(const TinyOptions& o, const std::string& dir) {
  TinyRun run(o, &world());
  Checkpointer checkpointer(world(), keep_all_in(dir), run.session().runtime().pool());
  std::vector<double> curve = take_course(run, 2).curve;
  for (const int64_t step : {2, 3}) {
    checkpointer.save(run.trainer(), step, "{}");
    for (const double value : take_course(run, 1).curve) curve.push_back(value);
  }
  for (const SaveReport& report : checkpointer.reports(true)) EXPECT_EQ(report.error, "");
  return curve;
}

class ResumedRun {
 public:
  ResumedRun(TinyOptions o, CheckpointOptions checkpoint, int64_t step) {
    o.initial_seed = 99;
    run_ = std::make_unique<TinyRun>(o, &world());
    checkpointer_ = std::make_unique<Checkpointer>(world(), checkpoint, run_->session().runtime().pool());
    const std::optional<Resumed> resumed = checkpointer_->resume(run_->trainer());
    EXPECT_TRUE(resumed && resumed->step == step);
  }
  TinyRun& run() { return *run_; }
  Checkpointer& checkpointer() { return *checkpointer_; }

 private:
  std::unique_ptr<TinyRun> run_;
  std::unique_ptr<Checkpointer> checkpointer_;
};

void expect_resuming_to_keep_the_bits(const TinyOptions& o) {
  const SharedScratch folder(world());
  const std::string dir = folder / "c";
  TinyRun uninterrupted(o, &world());
  const End whole = train_to_the_end(uninterrupted, 5);
  EXPECT_EQ(train_and_save(o, dir), std::vector<double>(whole.curve.begin(), whole.curve.begin() + 8));
  {
    CheckpointOptions older = keep_all_in(dir);
    older.every = 0;
    older.resume = dir + "/step-00000002";
    ResumedRun second(o, older, 2);
    expect_the_same_bits(train_to_the_end(second.run(), 3), whole);
  }
  {
    ResumedRun third(o, keep_all_in(dir), 3);
    third.checkpointer().save(third.run().trainer(), 4, "{}");
    for (const SaveReport& report : third.checkpointer().reports(true)) {
      EXPECT_EQ(report.error, "");
      EXPECT_EQ(report.stats.stored, 0);
      EXPECT_EQ(report.stats.referenced, report.stats.raw);
    }
  }
  ResumedRun fourth(o, keep_all_in(dir), 4);
  expect_the_same_bits(train_to_the_end(fourth.run(), 2), whole);
}

TEST(CheckpointLayouts, TheSameLayoutKeepsItsBits) {
  int64_t index = 0;
  for (const char* precision : {"f32", "f16", "bf16"}) {
    LayoutPair pair;
    do pair = draw_pair(kSeed + 1, index++, world().size(), kSteps);
    while (pair.first_ranks < world().size());
    TinyOptions o = pair.first;
    o.train.precision = precision;
    SCOPED_TRACE(fmt::format("{} {}", precision, text_of(o)));
    expect_resuming_to_keep_the_bits(o);
  }
}

// A scale that overflows, so that steps are left out before and behind the checkpoint.
TEST(CheckpointLayouts, LossScalesGoOnOnAnother) {
  LayoutPair pair;
  pair.first_ranks = pair.second_ranks = world().size();
  pair.first.parallel.dp = world().size();
  pair.first.parallel.zero = 1;
  pair.second.parallel.tp = 2;
  pair.second.parallel.dp = world().size() / 2;
  pair.second.parallel.zero = 3;
  pair.second.initial_seed = 99;
  pair.steps_before = pair.steps_after = 2;
  for (TinyOptions* o : {&pair.first, &pair.second}) {
    o->train.precision = "f16";
    o->train.global_batch = 16;
    o->optim.loss_scale.init = 0x1p40;
  }
  const SharedScratch folder(world());
  const ResumedPair done = run_pair(pair, world(), folder / "c");
  EXPECT_EQ(done.faults, std::vector<std::string>());
  if (world().rank() != 0) return;
  ASSERT_EQ(done.course.curve.size(), 8u);
  for (size_t i = 1; i < 8; i += 2) EXPECT_TRUE(std::isinf(done.course.curve[i])) << i;
}

}  // namespace
}  // namespace deepflow
