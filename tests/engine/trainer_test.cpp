#include "engine/trainer.h"

#include "core/error.h"
#include "tests/core/error_text.h"
#include "tests/engine/tiny_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

using testing::error_of;

void expect_near_curves(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance * std::abs(b[i])) << "value " << i;
}

TEST(Trainer, LearnsARepetitiveText) {
  for (const char* family : {"llama", "gpt2"})
    for (const char* precision : {"f32", "bf16", "f16"}) {
      TinyOptions options;
      options.family = family;
      options.train.precision = precision;
      TinyRun run(options);
      const std::vector<StepReport> reports = run.train(40);
      EXPECT_NEAR(reports.front().loss, std::log(257.0), 0.2) << family << precision;
      EXPECT_LT(reports.back().loss, 2.6) << family << precision;
    }
}

TEST(Trainer, F16FollowsF32AfterTheStepsThatItsLossScaleLeftOut) {
  for (const char* family : {"llama", "gpt2"}) {
    TinyOptions options;
    options.family = family;
    const std::vector<double> f32 = TinyRun(options).curve(40);
    options.train.precision = "f16";
    options.optim.loss_scale.init = 0x1p10;
    const std::vector<double> f16 = TinyRun(options).curve(40);
    expect_near_curves(f16, f32, 0.03);
    EXPECT_EQ(TinyRun(options).curve(40), f16) << family << ": not the same bits again";
  }
}

TEST(Trainer, F16LeavesOutStepsUntilTheLossScaleFits) {
  for (const char* family : {"llama", "gpt2"}) {
    TinyOptions options;
    options.family = family;
    options.train.precision = "f16";
    options.train.steps = 80;
    options.optim.loss_scale.init = 0x1p40;  // far too large
    TinyRun run(options);
    const std::vector<float> before = run.masters();
    int64_t skipped = 0;
    StepReport report;
    for (report = run.trainer().step(); !report.applied; report = run.trainer().step()) {
      EXPECT_EQ(run.masters(), before);
      EXPECT_TRUE(std::isfinite(report.loss) && std::isinf(report.gradient_norm));
      EXPECT_EQ(report.step, ++skipped);
    }
    EXPECT_GT(skipped, 10);
    EXPECT_NE(run.masters(), before);
    EXPECT_LT(run.train(60).back().loss, 2.6) << family;
  }
}

TEST(Trainer, Int8ProductsLearnAsBf16OnesDo) {
  for (const char* family : {"llama", "gpt2"})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      TinyOptions options;
      options.family = family;
      options.recompute = recompute;
      options.train.precision = "bf16";
      const std::vector<double> bf16 = TinyRun(options).curve(40);
      options.train.precision = "int8";
      const std::vector<double> int8 = TinyRun(options).curve(40);
      EXPECT_NE(int8, bf16) << family;
      EXPECT_EQ(TinyRun(options).curve(40), int8) << family << ": not the same bits again";
      for (size_t i = 0; i < int8.size(); i += 2) EXPECT_NEAR(int8[i], bf16[i], 0.03 * bf16[i]) << family << " " << i;
      EXPECT_LT(int8[78], 2.6) << family;
    }
}

TEST(Trainer, ReportsWhatAStepDid) {
  TinyOptions options;
  options.optim.warmup = 4;
  options.optim.schedule = "constant";
  TinyRun run(options);
  const StepReport first = run.trainer().step(), second = run.trainer().step();
  EXPECT_EQ(first.step, 1);
  EXPECT_EQ(second.step, 2);
  EXPECT_EQ(run.trainer().steps_done(), 2);
  EXPECT_DOUBLE_EQ(second.lr, 5e-3 * 2 / 4);
  EXPECT_EQ(second.tokens, 8 * 24);
  EXPECT_GT(second.seconds, 0);
  EXPECT_GT(second.gradient_norm, 0);
}

TEST(Trainer, GivesTheSameCurveForAnyMicroBatch) {
  for (const char* family : {"llama", "gpt2"}) {
    TinyOptions options;
    options.family = family;
    options.dropout = 0.1f;
    const std::vector<double> whole = TinyRun(options).curve(15);
    for (const int64_t micro : {1, 2, 4}) {
      options.train.micro_batch = micro;
      TinyRun run(options);
      EXPECT_EQ(run.trainer().micro_batch(), micro);
      expect_near_curves(run.curve(15), whole, 1e-5);
    }
  }
}

TEST(Trainer, RunAgainGivesTheSameBits) {
  TinyOptions options;
  options.train.precision = "bf16";
  EXPECT_EQ(TinyRun(options).curve(8), TinyRun(options).curve(8));
}

TEST(Trainer, RecomputingActivationsChangesNothing) {
  TinyOptions options;
  options.family = "gpt2";
  options.dropout = 0.2f;
  TinyRun kept(options);
  const std::vector<double> curve = kept.curve(6);
  for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    options.recompute = recompute;
    TinyRun recomputed(options);
    EXPECT_EQ(recomputed.curve(6), curve);
    EXPECT_EQ(recomputed.masters(), kept.masters());
  }
}

TEST(Trainer, RecomputesSoMuchThatItFitsTheBudget) {
  TinyOptions options;
  options.sequence = 96;
  TinyRun kept(options);
  const std::vector<double> curve = kept.curve(3);
  const auto peak = [](TinyRun& run) { return static_cast<double>(run.session().runtime().memory().stats().peak); };
  options.recompute = Recompute::kAuto;
  options.train.memory_budget = 0.8e-9 * peak(kept);
  TinyRun fitted(options);
  EXPECT_EQ(fitted.curve(3), curve);
  EXPECT_LT(peak(fitted), 0.83 * peak(kept));
  options.train.memory_budget = 0.1e-9 * peak(kept);
  EXPECT_THROW(TinyRun{options}, ConfigError);
}

TEST(Trainer, GivesTheSameBitsWhicheverFormsStay) {
  for (const char* family : {"gpt2", "llama"})
    for (const int64_t micro_batch : {8, 4}) {
      TinyOptions o;
      o.family = family;
      o.train.precision = "bf16";
      o.train.micro_batch = micro_batch;
      o.train.weight_forms = "all";
      const std::vector<double> all = TinyRun(o).curve(4);
      o.train.weight_forms = "forward";
      EXPECT_EQ(TinyRun(o).curve(4), all) << family;
    }
}

TEST(Trainer, AsksTheSystemForNoMemoryOnceItIsUnderWay) {
  for (const char* family : {"gpt2", "llama"}) {
    TinyOptions o;
    o.family = family;
    o.train.precision = "bf16";
    TinyRun run(o);
    run.train(2);
    const Allocator& memory = run.session().runtime().memory();
    const MemoryStats before = memory.stats();
    run.train(6);
    EXPECT_EQ(memory.stats().num_maps, before.num_maps) << family;
    EXPECT_EQ(memory.stats().peak, before.peak) << family;
    EXPECT_GT(memory.stats().num_allocs, before.num_allocs);
  }
}

TEST(Trainer, StaysNearF32InBf16) {
  TinyOptions options;
  const std::vector<StepReport> exact = TinyRun(options).train(20);
  options.train.precision = "bf16";
  const std::vector<StepReport> rounded = TinyRun(options).train(20);
  for (size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(rounded[i].loss, exact[i].loss, 0.02 * exact[i].loss) << i;
    EXPECT_NE(rounded[i].loss, exact[i].loss) << i;
  }
}

TEST(Trainer, ClipsTheGradientToTheLargestNorm) {
  TinyOptions options;
  options.optim.name = "sgd";
  options.optim.momentum = 0;
  options.optim.weight_decay = 0;
  options.optim.warmup = 0;
  options.optim.schedule = "constant";
  options.optim.clip = 0.125;
  options.optim.lr = 1;
  TinyRun run(options);
  const std::vector<float> before = run.masters();
  const StepReport report = run.trainer().step();
  ASSERT_GT(report.gradient_norm, 0.125);
  const std::vector<float> after = run.masters();
  double moved = 0;
  for (size_t i = 0; i < after.size(); ++i) moved += std::pow(static_cast<double>(after[i] - before[i]), 2);
  EXPECT_NEAR(std::sqrt(moved), 0.125, 1e-5);
}

TEST(Trainer, StopsAtALossThatIsNotFinite) {
  TinyRun run(TinyOptions{});
  run.train(2);
  run.poison("layers.1.mlp.down.weight");
  const std::vector<float> before = run.masters();
  EXPECT_THAT(error_of([&] { run.trainer().step(); }),
              AllOf(HasSubstr("step 3: the loss is not finite on rank 0"),
                    HasSubstr("first parameter whose gradient is not finite: embedding.weight")));
  const std::vector<float> after = run.masters();
  EXPECT_EQ(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)), 0);
  EXPECT_EQ(run.trainer().steps_done(), 2);
}

TEST(Trainer, TakesABatchWithNothingToPredict) {
  TinyOptions options;
  options.text = lonely_tokens();
  options.optim.weight_decay = 0;
  options.train.micro_batch = 4;
  TinyRun run(options);
  const std::vector<float> before = run.masters();
  const StepReport report = run.trainer().step();
  EXPECT_EQ(report.loss, 0);
  EXPECT_EQ(report.gradient_norm, 0);
  EXPECT_EQ(run.masters(), before);
}

TEST(Trainer, RefusesABatchThatDoesNotDivide) {
  TinyOptions options;
  options.train.micro_batch = 3;
  EXPECT_THAT(error_of([&] { TinyRun run(options); }),
              HasSubstr("train.micro_batch: 3 does not divide the 8 sequences of a rank"));
}

TEST(Trainer, ChoosesTheLargestMicroBatchThatFits) {
  TinyOptions options;
  EXPECT_EQ(TinyRun(options).trainer().micro_batch(), 8);
  options.text = some_text(200);
  options.sequence = 3000;
  EXPECT_EQ(TinyRun(options).trainer().micro_batch(), 2);
}

}  // namespace
}  // namespace deepflow
