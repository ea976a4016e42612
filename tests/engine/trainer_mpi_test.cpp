#include "core/error.h"
#include "engine/evaluator.h"
#include "tests/engine/tiny_run.h"
#include "tests/parallel/mpi_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using namespace testing;
using ::testing::HasSubstr;

Communicator& world() { return test_world().all(); }

TEST(TrainerOnRanks, FollowsTheCurveOfOneRank) {
  for (const char* family : {"llama", "gpt2"})
    for (const char* optimizer : {"adamw", "sgd"}) {
      TinyOptions options;
      options.family = family;
      options.dropout = 0.1f;
      options.optim.name = optimizer;
      const std::vector<double> alone = TinyRun(options).curve(12);
      for (const int zero : {0, 1}) {
        options.parallel.zero = zero;
        TinyRun run(options, &world());
        const std::vector<double> together = run.curve(12);
        for (size_t i = 0; i < alone.size(); ++i)
          EXPECT_NEAR(together[i], alone[i], 1e-5 * alone[i]) << family << optimizer << zero << " value " << i;
      }
    }
}

TEST(TrainerOnRanks, LeaveOutTheSameStepsInF16) {
  for (const char* family : {"llama", "gpt2"}) {
    TinyOptions options;
    options.family = family;
    options.train.precision = "f16";
    options.optim.loss_scale.init = 0x1p28;  // too large: the first steps are left out
    const std::vector<StepReport> alone = TinyRun(options).train(16);
    EXPECT_FALSE(alone.front().applied);
    EXPECT_TRUE(alone.back().applied);
    for (const int zero : {0, 1}) {
      options.parallel.zero = zero;
      TinyRun run(options, &world());
      const std::vector<StepReport> together = run.train(16);
      for (size_t i = 0; i < alone.size(); ++i) {
        EXPECT_EQ(together[i].applied, alone[i].applied) << family << zero << " step " << i + 1;
        EXPECT_NEAR(together[i].loss, alone[i].loss, 2e-3 * alone[i].loss) << family << zero << " step " << i + 1;
      }
      std::vector<double> mine;
      for (const float v : run.masters()) mine.push_back(static_cast<double>(v));
      EXPECT_EQ(max_doubles(world(), mine, "masters"), mine);
    }
  }
}

TEST(TrainerOnRanks, KeepsTheSameMastersEverywhere) {
  for (const int zero : {0, 1}) {
    TinyOptions options;
    options.parallel.zero = zero;
    TinyRun run(options, &world());
    run.train(5);
    std::vector<double> mine;
    for (const float v : run.masters()) mine.push_back(static_cast<double>(v));
    EXPECT_EQ(max_doubles(world(), mine, "masters"), mine);
  }
}

TEST(TrainerOnRanks, ContinuesBitIdenticallyFromACopyOfAllState) {
  for (const char* optimizer : {"adamw", "sgd"})
    for (const int zero : {0, 1}) {
      TinyOptions options;
      options.optim.name = optimizer;
      options.parallel.zero = zero;
      TinyRun first(options, &world());
      first.train(4);
      options.initial_seed = 99;
      TinyRun second(options, &world());
      second.train(1);
      load_state(second.trainer(), save_state(first.trainer()));
      EXPECT_EQ(first.curve(4), second.curve(4));
      EXPECT_EQ(first.masters(), second.masters());
    }
}

TEST(TrainerOnRanks, AgreeOnTheStrictestRecomputation) {
  std::vector<Recompute> mine = {Recompute::kSelective, Recompute::kNone};
  if (world().rank() == world().size() - 1) mine = {Recompute::kFull, Recompute::kSelective};
  const std::vector<Recompute> agreed = strictest(world(), mine);
  EXPECT_EQ(agreed, (std::vector<Recompute>{Recompute::kFull, Recompute::kSelective}));
}

TEST(TrainerOnRanks, NamesTheRankWhoseLossIsNotFinite) {
  for (const int zero : {0, 1}) {
    TinyOptions options;
    options.parallel.zero = zero;
    TinyRun run(options, &world());
    run.train(1);
    const int bad = world().size() - 1;
    if (world().rank() == bad) run.poison("layers.0.mlp.up.weight");
    std::string message;
    try {
      run.trainer().step();
    } catch (const NumericError& e) {
      message = e.what();
    }
    EXPECT_THAT(message, HasSubstr(fmt::format("step 2: the loss is not finite on rank {};", bad)));
    EXPECT_THAT(message, HasSubstr("first parameter whose gradient is not finite: embedding.weight"));
  }
}

TEST(EvaluatorOnRanks, GivesTheLossOfOneRank) {
  const HeldOut heldout(some_text(15), 24, Documents::kSeparate);
  TinyRun alone(TinyOptions{}), together(TinyOptions{}, &world());
  Machine one = alone.session().machine(), all = together.session().machine();
  for (const int64_t windows : {0, 1, 7}) {
    const Evaluation expected = evaluate(one, heldout, windows, 1), got = evaluate(all, heldout, windows, 1);
    EXPECT_NEAR(got.loss, expected.loss, 1e-9 * expected.loss);
    EXPECT_EQ(got.num_labels, expected.num_labels);
    EXPECT_NEAR(got.bits_per_byte, expected.bits_per_byte, 1e-9);
  }
}

}  // namespace
}  // namespace deepflow
