#include "optim/learning_rate.h"

#include "core/error.h"
#include "core/option.h"
#include "core/option_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

OptimOptions schedule(const std::string& name) {
  OptimOptions o;
  o.schedule = name;
  o.lr = 2e-3;
  o.warmup = 10;
  o.final_lr = 0.1;
  return o;
}

TEST(LearningRate, RisesLinearlyToItsPeakAtTheEndOfTheWarmUp) {
  for (const std::string& name : learning_rate_schedules()) {
    OptimOptions o = schedule(name);
    o.decay = 20;
    for (int64_t step = 1; step <= 10; ++step)
      EXPECT_NEAR(learning_rate(o, step, 110), 2e-4 * static_cast<double>(step), 1e-15) << name;
    EXPECT_LE(learning_rate(o, 11, 110), 2e-3) << name;
  }
}

TEST(LearningRate, EndsAtTheFinalRateAtTheLastStep) {
  for (const std::string& name : learning_rate_schedules()) {
    OptimOptions o = schedule(name);
    o.decay = 20;
    EXPECT_NEAR(learning_rate(o, 110, 110), name == "constant" ? 2e-3 : 2e-4, 1e-15) << name;
    o.final_lr = 0;
    EXPECT_NEAR(learning_rate(o, 110, 110), name == "constant" ? 2e-3 : 0, 1e-15) << name;
  }
}

TEST(LearningRate, NeverRisesAfterTheWarmUp) {
  for (const std::string& name : learning_rate_schedules()) {
    OptimOptions o = schedule(name);
    o.decay = 30;
    for (int64_t step = 11; step <= 110; ++step)
      EXPECT_LE(learning_rate(o, step, 110), learning_rate(o, step - 1, 110)) << name << step;
  }
}

TEST(LearningRate, FollowsTheCosineThroughItsMiddle) {
  const OptimOptions o = schedule("warmup_cosine");
  EXPECT_NEAR(learning_rate(o, 60, 110), 2e-3 * 0.55, 1e-15);
  EXPECT_NEAR(learning_rate(o, 35, 110), 2e-3 * (0.1 + 0.9 * 0.85355339059327), 1e-14);
}

TEST(LearningRate, FollowsTheLineThroughItsMiddle) {
  EXPECT_NEAR(learning_rate(schedule("linear"), 60, 110), 2e-3 * 0.55, 1e-15);
}

TEST(LearningRate, IsStableUntilTheDecayOfWsdBegins) {
  OptimOptions o = schedule("wsd");
  o.decay = 20;
  for (int64_t step = 10; step <= 90; ++step) EXPECT_NEAR(learning_rate(o, step, 110), 2e-3, 1e-15) << step;
  EXPECT_LT(learning_rate(o, 91, 110), 2e-3);
  EXPECT_NEAR(learning_rate(o, 100, 110), 2e-3 * 0.55, 1e-14);
  o.decay = 0;
  EXPECT_NEAR(learning_rate(o, 109, 110), 2e-3, 1e-15);
  o.decay = 1000;  // longer than the run: all of it
  EXPECT_NEAR(learning_rate(o, 60, 110), 2e-3 * 0.55, 1e-14);
}

TEST(LearningRate, WithoutWarmUpStartsNearItsPeak) {
  for (const std::string& name : learning_rate_schedules()) {
    OptimOptions o = schedule(name);
    o.warmup = 0;
    EXPECT_GT(learning_rate(o, 1, 1000), 0.99 * 2e-3) << name;
  }
}

TEST(LearningRate, OfARunThatEndsInItsWarmUpStillRises) {
  const OptimOptions o = schedule("warmup_cosine");
  EXPECT_NEAR(learning_rate(o, 4, 4), 2e-3 * 0.4, 1e-15);
  EXPECT_NEAR(learning_rate(o, 10, 10), 2e-3, 1e-15);
}

TEST(LearningRate, OfOneStepIsFinite) {
  for (const std::string& name : learning_rate_schedules()) {
    OptimOptions o = schedule(name);
    o.warmup = 0;
    EXPECT_GT(learning_rate(o, 1, 1), 0) << name;
    EXPECT_LE(learning_rate(o, 1, 1), 2e-3) << name;
  }
}

TEST(OptimOptions, RefuseWhatIsNoOptimizerOrSchedule) {
  const auto error_of = [](const std::string& yaml) -> std::string {
    OptimOptions options;
    OptionGroup group("optim");
    declare(group, options);
    try {
      group.read(parse_yaml(yaml, "recipe.yaml"));
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error_of("{name: sgd, schedule: wsd, lr: 0.1, decay: 5}"), "");
  EXPECT_THAT(error_of("{schedule: cosine}"), ::testing::HasSubstr("optim.schedule"));
  EXPECT_THAT(error_of("{name: adam}"), ::testing::HasSubstr("adamw"));
  EXPECT_THAT(error_of("{lr: -0.1}"), ::testing::HasSubstr("optim.lr"));
  EXPECT_THAT(error_of("{final_lr: 1.5}"), ::testing::HasSubstr("optim.final_lr"));
  EXPECT_THAT(error_of("{warmup: -1}"), ::testing::HasSubstr("optim.warmup"));
  EXPECT_THROW(learning_rate(schedule("cosine"), 50, 100), ConfigError);
}

}  // namespace
}  // namespace deepflow
