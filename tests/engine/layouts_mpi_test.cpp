#include "core/error.h"
#include "core/turns.h"
#include "engine/evaluator.h"
#include "tests/engine/measured_memory.h"
#include "tests/parallel/mpi_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace deepflow {
namespace {

using namespace testing;

Communicator& world() { return test_world().all(); }

// One strategy at a time on all ranks, then pairs.
std::vector<ParallelOptions> layouts(int ranks) {
  std::vector<ParallelOptions> found;
  const auto add = [&](auto&& set) {
    ParallelOptions p;
    set(p);
    if (ranks % (p.tp * p.cp * p.pp) == 0) found.push_back(p);
  };
  for (const bool sp : {false, true})
    for (const int zero : {0, 3}) add([&](ParallelOptions& p) { p.tp = ranks, p.sp = sp, p.zero = zero; });
  for (const ContextMethod method : {ContextMethod::kRing, ContextMethod::kUlysses})
    add([&](ParallelOptions& p) { p.cp = ranks, p.cp_method = method; });
  for (const char* schedule : {"gpipe", "1f1b", "zb_h1"})
    add([&](ParallelOptions& p) { p.pp = ranks, p.schedule = schedule; });
  for (const char* schedule : {"interleaved_1f1b", "zb_v", "dualpipev"})
    add([&](ParallelOptions& p) { p.pp = ranks, p.vp = 2, p.schedule = schedule; });
  for (const int zero : {0, 1, 2, 3}) add([&](ParallelOptions& p) { p.zero = zero; });
  if (ranks < 4) return found;
  add([&](ParallelOptions& p) { p.shard = 2, p.zero = 3; });
  add([&](ParallelOptions& p) { p.tp = 2, p.pp = 2; });
  add([&](ParallelOptions& p) { p.tp = 2, p.cp = 2, p.sp = true; });
  add([&](ParallelOptions& p) { p.cp = 2, p.pp = 2, p.zero = 2; });
  return found;
}

// The same with the experts over all ranks of a stage, whole or in halves.
std::vector<ParallelOptions> layouts(int ranks, const std::string& family) {
  std::vector<ParallelOptions> found = layouts(ranks);
  if (family != "mixtral" && family != "mtp_moe" && family != "deepseek_v3") return found;
  const size_t plain = found.size();
  for (size_t i = 0; i < plain; ++i) {
    ParallelOptions p = found[i];
    p.etp = ranks / p.pp % 2 == 0 && i % 2 == 1 ? 2 : 1;
    p.ep = ranks / p.pp / p.etp;
    if (p.ep * p.etp > 1) found.push_back(p);
  }
  return found;
}

TinyOptions options_for(const ParallelOptions& parallel, const std::string& family) {
  TinyOptions o;
  o.family = family;
  o.tied = family == "gpt2";
  o.dropout = 0.1f;
  o.heads = 4;
  o.layers = 2 * std::max(2, parallel.pp * parallel.vp / 2);
  o.sequence = 32;
  o.train.global_batch = 16;
  o.train.micro_batch = 1;
  o.parallel = parallel;
  o.experts = 8;
  o.balance.capacity = 1.5;
  // With smaller weights a router's scores come so near to ties that one rank alone parts from itself with other
  // micro-batches.
  if (family == "mtp_moe" || family == "deepseek_v3") o.init_std = 0.1f;
  return o;
}

std::string text_of(const ParallelOptions& p) {
  return fmt::format("tp {} sp {} cp {} method {} ep {} etp {} pp {} vp {} {} zero {} shard {}", p.tp, p.sp, p.cp,
                     static_cast<int>(p.cp_method), p.ep, p.etp, p.pp, p.vp, p.schedule, p.zero, p.shard);
}

TEST(Layouts, FollowTheCurveOfOneRank) {
  for (const std::string family : {"llama", "gpt2", "mixtral", "mtp", "mtp_moe"})
    for (const ParallelOptions& parallel : layouts(world().size(), family)) {
      TinyOptions o = options_for(parallel, family);
      TinyRun run(o, &world());
      const std::vector<double> together = run.curve(6);
      o.parallel = {};
      const std::vector<double> alone = TinyRun(o).curve(6);
      for (size_t i = 0; i < alone.size(); ++i)
        ASSERT_NEAR(together[i], alone[i], 2e-5 * alone[i]) << family << " " << text_of(parallel) << " value " << i;
    }
}

// The embedding has then four readings, three of them on the last stage.
TEST(Layouts, TiedMultiTokenPredictionFollowsTheCurveOfOneRank) {
  for (const ParallelOptions& parallel : layouts(world().size())) {
    TinyOptions o = options_for(parallel, "mtp");
    o.tied = true;
    o.documents = Documents::kJoined;
    TinyRun run(o, &world());
    const std::vector<double> together = run.curve(6);
    o.parallel = {};
    const std::vector<double> alone = TinyRun(o).curve(6);
    ASSERT_EQ(together.size(), 3u * 6u);
    for (size_t i = 0; i < alone.size(); ++i)
      ASSERT_NEAR(together[i], alone[i], 2e-5 * alone[i]) << text_of(parallel) << " value " << i;
  }
}

// Heads on other ranks, key heads on several, rows on several, parts of a matrix on several.
TEST(Layouts, FollowTheCurveOfOneRankWithQkClip) {
  for (const std::string family : {"llama", "gpt2", "deepseek_v3"}) {
    std::map<int64_t, std::vector<StepReport>> of_one_rank;  // by layers
    for (const ParallelOptions& parallel : layouts(world().size(), family)) {
      TinyOptions o = options_for(parallel, family);
      o.init_std = 0.2f;
      o.query_rank = family == "deepseek_v3" ? 12 : 0;
      o.optim.qk_clip = 0.5;
      // A key's bias moves all scores of a row alike: its gradient is nothing but rounding, which AdamW would make as
      // large as any other, and the scores would follow.
      o.optim.eps = 1e-6;
      TinyRun run(o, &world());
      const std::vector<StepReport> together = run.train(4);
      o.parallel = {};
      std::vector<StepReport>& alone = of_one_rank[o.layers];
      if (alone.empty()) alone = TinyRun(o).train(4);
      SCOPED_TRACE(family + " " + text_of(parallel));
      for (size_t i = 0; i < alone.size(); ++i) {
        ASSERT_NEAR(together[i].loss, alone[i].loss, 2e-5 * alone[i].loss) << i;
        ASSERT_NEAR(together[i].gradient_norm, alone[i].gradient_norm, 2e-5 * alone[i].gradient_norm) << i;
        ASSERT_GT(alone[i].score_figures->clipped, 0);
        ASSERT_EQ(together[i].scores.size(), alone[i].scores.size());
        for (size_t l = 0; l < alone[i].scores.size(); ++l) {
          ASSERT_EQ(together[i].scores[l].layer, alone[i].scores[l].layer);
          ASSERT_EQ(together[i].scores[l].largest.size(), 4u);
          for (size_t h = 0; h < 4; ++h)
            ASSERT_NEAR(together[i].scores[l].largest[h], alone[i].scores[l].largest[h],
                        2e-5 * std::abs(alone[i].scores[l].largest[h]))
                << i << " " << alone[i].scores[l].layer << " " << h;
        }
      }
    }
  }
}

TEST(Layouts, KeepTheirBitsUnderRecomputation) {
  const int n = world().size();
  for (const char* family : {"llama", "gpt2", "mtp"})
    for (ParallelOptions parallel : layouts(n)) {
      if (parallel.tp == 1 && parallel.cp == 1) continue;
      for (const bool overlap : {false, true}) {
        parallel.tp_overlap = overlap;
        TinyOptions o = options_for(parallel, family);
        const std::vector<double> none = TinyRun(o, &world()).curve(2);
        for (const Recompute policy : {Recompute::kSelective, Recompute::kFull}) {
          o.recompute = policy;
          ASSERT_EQ(TinyRun(o, &world()).curve(2), none) << family << " " << text_of(parallel);
        }
      }
    }
}

// Where forward and backward passes of models with experts are woven.
std::vector<ParallelOptions> woven_layouts(int ranks) {
  std::vector<ParallelOptions> found;
  if (ranks % 4 != 0) return found;
  const auto add = [&](auto&& set) {
    ParallelOptions p;
    p.pp = 2, p.vp = 2, p.schedule = "dualpipev";
    set(p);
    found.push_back(p);
  };
  for (const int zero : {1, 3}) add([&](ParallelOptions& p) { p.ep = 2, p.zero = zero; });
  add([&](ParallelOptions& p) { p.etp = 2; });
  for (const bool sp : {false, true}) add([&](ParallelOptions& p) { p.tp = 2, p.ep = 2, p.sp = sp; });
  add([&](ParallelOptions& p) { p.cp = 2, p.ep = 2; });
  return found;
}

int64_t num_yields(TinyRun& run) { return run.session().runtime().slot<Turns>().num_yields(); }

TEST(Layouts, WovenPassesOfExpertsFollowTheCurveOfOneRank) {
  for (const std::string family : {"mixtral", "deepseek_v3", "mtp_moe"})
    for (const ParallelOptions& parallel : woven_layouts(world().size())) {
      TinyOptions o = options_for(parallel, family);
      TinyRun run(o, &world());
      const std::vector<double> together = run.curve(6);
      EXPECT_GT(num_yields(run), 0);
      o.parallel = {};
      const std::vector<double> alone = TinyRun(o).curve(6);
      for (size_t i = 0; i < alone.size(); ++i)
        ASSERT_NEAR(together[i], alone[i], 2e-5 * alone[i]) << family << " " << text_of(parallel) << " value " << i;
    }
}

TEST(Layouts, KeepTheirBitsWhenPassesTakeTurns) {
  for (const std::string family : {"mixtral", "deepseek_v3", "mtp_moe"})
    for (const ParallelOptions& parallel : woven_layouts(world().size()))
      for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
        TinyOptions o = options_for(parallel, family);
        o.recompute = policy;
        TinyRun in_turns(o, &world());
        o.parallel.ep_overlap = false;
        TinyRun in_sequence(o, &world());
        ASSERT_EQ(in_turns.curve(3), in_sequence.curve(3)) << family << " " << text_of(parallel);
        EXPECT_GT(num_yields(in_turns), 0) << text_of(parallel);
        EXPECT_EQ(num_yields(in_sequence), 0) << text_of(parallel);
      }
}

// Passes forward alone have nobody who could compute meanwhile.
TEST(Layouts, WovenLayoutsOfExpertsEvaluateAsOneRank) {
  const HeldOut heldout(some_text(15), 32, Documents::kSeparate);
  for (const ParallelOptions& parallel : woven_layouts(world().size())) {
    TinyOptions o = options_for(parallel, "mixtral");
    TinyRun together(o, &world());
    o.parallel = {};
    TinyRun alone(o);
    Machine one = alone.session().machine(), all = together.session().machine();
    const Evaluation expected = evaluate(one, heldout, 7, 1), got = evaluate(all, heldout, 7, 1);
    EXPECT_NEAR(got.loss, expected.loss, 1e-6 * expected.loss) << text_of(parallel);
    EXPECT_EQ(num_yields(together), 0) << text_of(parallel);
  }
}

double max_of_ranks(double value) { return max_doubles(world(), std::span(&value, 1), "most").front(); }

// Of memory between steps the arithmetic knows every byte, but for what the allocator rounds up: each tensor to 64
// bytes. A rank has fewer than 48 whose sizes are odd.
TEST(Layouts, TakeTheMemoryThatTheArithmeticSays) {
  const std::vector<std::string> optimizers = optimizer_names();
  size_t turn = 0;
  for (const std::string family : {"llama", "mixtral", "mtp"})
    for (const ParallelOptions& parallel : layouts(world().size(), family)) {
      TinyOptions o = options_for(parallel, family);
      o.width = 64, o.ffn = 128, o.sequence = 64, o.balance.capacity = 0;
      o.optim.name = optimizers[turn++ % optimizers.size()];
      o.optim.block = 8;
      const MeasuredMemory m = measure_memory(o, world());
      EXPECT_GE(m.state, m.expected_state) << o.optim.name << " " << text_of(parallel);
      EXPECT_LE(m.state, m.expected_state + 48 * 64) << o.optim.name << " " << text_of(parallel);
    }
}

// How far a peak moves with the moment in which a message has left.
constexpr double kMessageShare = 0.01;

// Budgets between what nothing recomputed and everything in full need. Those two can be the same: where weight
// gradients wait, what they read waits with them.
void expect_within_the_budget(const std::string& family) {
  for (const ParallelOptions& parallel : layouts(world().size())) {
    TinyOptions o = options_for(parallel, family);
    o.width = 64, o.ffn = 192, o.sequence = 128;
    o.text = some_text(400);
    const auto peak = [&](const TinyOptions& options) {
      TinyRun run(options, &world());
      run.train(2);
      return max_of_ranks(static_cast<double>(run.session().runtime().memory().stats().peak));
    };
    const double most = peak(o);
    o.recompute = Recompute::kFull;
    const double least = (1 + kMessageShare) * peak(o);
    o.recompute = Recompute::kAuto;
    for (const double share : {0.35, 0.7}) {
      const double budget = least + share * std::max(0.0, most - least);
      o.train.memory_budget = budget * 1e-9;
      TinyRun run(o, &world());
      const std::optional<MemoryPlan>& plan = run.session().memory_plan();
      ASSERT_TRUE(plan);
      if (budget < 0.9 * most) {
        EXPECT_LT(plan->count(Recompute::kNone), o.layers) << text_of(parallel);
      }
      run.train(2);
      EXPECT_LE(max_of_ranks(static_cast<double>(run.session().runtime().memory().stats().peak)), 1.05 * budget)
          << family << " " << text_of(parallel) << ": " << plan->describe();
    }
  }
}
TEST(Layouts, StayWithinTheMemoryBudget) { expect_within_the_budget("llama"); }
TEST(Layouts, StayWithinTheMemoryBudgetWithMultiTokenPrediction) { expect_within_the_budget("mtp"); }

TEST(Layouts, EvaluateAsOneRank) {
  const HeldOut heldout(some_text(15), 32, Documents::kSeparate);
  for (const ParallelOptions& parallel : layouts(world().size())) {
    TinyOptions o = options_for(parallel, "llama");
    TinyRun together(o, &world());
    o.parallel = {};
    TinyRun alone(o);
    Machine one = alone.session().machine(), all = together.session().machine();
    for (const int64_t windows : {0, 1, 7}) {
      const Evaluation expected = evaluate(one, heldout, windows, 1), got = evaluate(all, heldout, windows, 1);
      EXPECT_NEAR(got.loss, expected.loss, 1e-6 * expected.loss) << text_of(parallel);
      EXPECT_EQ(got.num_labels, expected.num_labels) << text_of(parallel);
    }
  }
}

TEST(Layouts, ContinueBitIdenticallyFromACopyOfAllState) {
  for (const ParallelOptions& parallel : layouts(world().size()))
    for (const std::string& optimizer : optimizer_names()) {
      TinyOptions o = options_for(parallel, "llama");
      o.optim.name = optimizer;
      o.optim.block = 8;
      TinyRun first(o, &world());
      first.train(2);
      o.initial_seed = 99;
      TinyRun second(o, &world());
      second.train(1);
      load_state(second.trainer(), save_state(first.trainer()));
      EXPECT_EQ(first.curve(2), second.curve(2)) << optimizer << " " << text_of(parallel);
    }
}

// Whatever the optimizer looks at: blocks of elements, rows and columns, whole matrices.
TEST(Layouts, FollowTheCurveOfOneRankWithEveryOptimizer) {
  for (const ParallelOptions& parallel : layouts(world().size()))
    for (const char* optimizer : {"adamw8bit", "lion", "adafactor", "muon"}) {
      TinyOptions o = options_for(parallel, "llama");
      o.optim.name = optimizer;
      o.optim.block = 8;
      o.optim.lr = std::string(optimizer) == "lion" ? 1e-4 : 1e-3;
      o.optim.eps = 1e-6;
      o.init_std = 0.1f;
      TinyRun run(o, &world());
      const std::vector<double> together = run.curve(3);
      o.parallel = {};
      const std::vector<double> alone = TinyRun(o).curve(3);
      for (size_t i = 0; i < alone.size(); ++i)
        EXPECT_NEAR(together[i], alone[i], 2e-5 * alone[i]) << optimizer << " " << text_of(parallel) << " value " << i;
    }
}

// Columns that are quantised together must be on one rank.
TEST(Layouts, RefuseBlocksThatTensorParallelismCuts) {
  if (world().size() == 1) return;
  ParallelOptions parallel;
  parallel.tp = world().size();
  TinyOptions o = options_for(parallel, "llama");
  o.optim.name = "adamw8bit";
  o.optim.block = 64;
  std::string message;
  try {
    TinyRun run(o, &world());
  } catch (const ConfigError& e) {
    message = e.what();
  }
  EXPECT_THAT(message, ::testing::HasSubstr("take optim.block: "));
}

// A NaN in one rank's parameter ends the step on all ranks, whatever way it takes to the loss.
TEST(Layouts, EndTogetherWhenSomethingIsNotFinite) {
  for (const ParallelOptions& parallel : layouts(world().size())) {
    if (parallel.zero == 3) continue;  // nobody holds a whole master to spoil
    TinyRun run(options_for(parallel, "llama"), &world());
    run.train(1);
    Parameter* spoilt = run.session().registry().find("layers.1.mlp.up.weight");
    if (spoilt->pack->local) run.poison(spoilt->spec.name);
    EXPECT_THROW(run.trainer().step(), NumericError) << text_of(parallel);
  }
}

// When the run is made, not in the first step.
TEST(Layouts, RefuseKeyHeadsThatUlyssesCannotDeal) {
  const int ranks = world().size();
  if (ranks == 1) return;
  TinyOptions o;
  o.sequence = 4 * ranks;
  o.kv_heads = ranks + 1;
  o.heads = o.kv_heads * ranks;
  o.width = o.heads * 8;
  o.parallel.cp = ranks;
  o.parallel.cp_method = ContextMethod::kUlysses;
  std::string message;
  try {
    TinyRun run(o, &world());
  } catch (const ConfigError& e) {
    message = e.what();
  }
  EXPECT_THAT(message, ::testing::HasSubstr("take cp_method: ring"));
  o.parallel.cp_method = ContextMethod::kRing;
  EXPECT_NO_THROW(TinyRun(o, &world()));
}

}  // namespace
}  // namespace deepflow
