#include "optim/loss_scale.h"

#include "core/error.h"
#include "core/option_yaml.h"
#include "optim/optim_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace deepflow {
namespace {

LossScaleOptions options(double init, int64_t interval, double min = 1) {
  LossScaleOptions o;
  o.init = init;
  o.growth_interval = interval;
  o.min = min;
  return o;
}

TEST(LossScale, DoublesAfterSoManyGoodStepsInARow) {
  LossScale s(options(1024, 3));
  std::vector<float> scales;
  for (int i = 0; i < 7; ++i) {
    EXPECT_TRUE(s.update(true));
    scales.push_back(s.scale());
  }
  EXPECT_EQ(scales, (std::vector<float>{1024, 1024, 2048, 2048, 2048, 4096, 4096}));
  EXPECT_EQ(s.skipped(), 0);
}

TEST(LossScale, HalvesAndLeavesOutAStepThatIsNotFinite) {
  LossScale s(options(1024, 3));
  EXPECT_TRUE(s.update(true));
  EXPECT_TRUE(s.update(true));
  EXPECT_FALSE(s.update(false));
  EXPECT_EQ(s.scale(), 512);
  EXPECT_FALSE(s.update(false));
  EXPECT_EQ(s.scale(), 256);
  EXPECT_EQ(s.skipped(), 2);
  for (const float expected : {256.0f, 256.0f, 512.0f}) {  // the interval begins again
    EXPECT_TRUE(s.update(true));
    EXPECT_EQ(s.scale(), expected);
  }
}

TEST(LossScale, StaysWithinItsBounds) {
  LossScale small(options(4, 100, 2)), large(options(0x1p59, 1));
  for (const float expected : {2.0f, 2.0f, 2.0f}) {
    small.update(false);
    EXPECT_EQ(small.scale(), expected);
  }
  for (int i = 0; i < 5; ++i) large.update(true);
  EXPECT_EQ(large.scale(), 0x1p60f);
}

TEST(LossScale, EndsTheRunWhenTheSmallestScaleDoesNotHelp) {
  LossScale s(options(2, 100));
  const auto fail = [&](int times) {
    for (int i = 0; i < times; ++i) EXPECT_FALSE(s.update(false));
  };
  fail(5);  // the first of them only halves
  EXPECT_TRUE(s.update(true));
  fail(4);
  try {
    s.update(false);
    FAIL() << "no error";
  } catch (const NumericError& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("the loss scale fell to 1 (optim.loss_scale.min)"));
    EXPECT_THAT(e.what(), ::testing::HasSubstr("the model diverges"));
  }
}

// Name and bytes of every entry.
using Saved = std::map<std::string, std::vector<char>>;
Saved save(LossScale& s) {
  Saved saved;
  s.visit_state([&](StateEntry& e) {
    EXPECT_EQ(e.rule, Reshard::kReplicated);
    const char* begin = static_cast<const char*>(e.value.raw());
    saved[e.name] = {begin, begin + e.value.num_bytes()};
  });
  return saved;
}
void load(LossScale& s, const Saved& saved) {
  s.visit_state([&](StateEntry& e) { std::memcpy(e.value.raw(), saved.at(e.name).data(), e.value.num_bytes()); });
  s.state_written();
}

TEST(LossScale, GoesOnFromItsStateAsThoughNothingHadHappened) {
  const LossScaleOptions o = options(8, 4);
  // Growth, backoff and failures at the smallest scale lie before and behind every cut.
  const std::string steps = "gggggxgggxxxxxxgxxxxgggggg";
  for (size_t cut = 0; cut < steps.size(); ++cut) {
    LossScale whole(o), before(o), after(options(1 << 20, 4));
    after.update(false);
    for (size_t i = 0; i < cut; ++i) EXPECT_EQ(before.update(steps[i] == 'g'), whole.update(steps[i] == 'g'));
    load(after, save(before));
    for (size_t i = cut; i < steps.size(); ++i) {
      EXPECT_EQ(after.update(steps[i] == 'g'), whole.update(steps[i] == 'g'));
      EXPECT_EQ(after.scale(), whole.scale()) << cut << " " << i;
    }
    EXPECT_EQ(save(after), save(whole)) << cut;
  }
}

TEST(LossScale, FailuresAtTheSmallestScaleSurviveARestart) {
  LossScale before(options(1, 10)), after(options(1, 10));
  for (int i = 0; i < 4; ++i) before.update(false);
  load(after, save(before));
  EXPECT_THROW(after.update(false), NumericError);
}

std::string error_of(const std::string& yaml, OptimOptions& o) {
  OptionGroup group("optim");
  declare(group, o);
  try {
    group.read(parse_yaml(yaml, "recipe.yaml"));
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

TEST(LossScaleOptions, AreKeysOfTheRecipe) {
  OptimOptions o;
  EXPECT_EQ(error_of("{loss_scale: {init: 1024, growth_interval: 7}}", o), "");
  EXPECT_EQ(o.loss_scale.init, 1024);
  EXPECT_EQ(o.loss_scale.growth_interval, 7);
  EXPECT_EQ(o.loss_scale.min, 1);
  EXPECT_EQ(error_of("{loss_scale: {init: 0.25, min: 0.125}}", o), "");
  EXPECT_EQ(LossScale(o.loss_scale).scale(), 0.25f);
}

TEST(LossScaleOptions, RefuseWhatIsNoPowerOfTwoAndAnInitBelowTheMinimum) {
  OptimOptions o;
  EXPECT_THAT(error_of("{loss_scale: {init: 1000}}", o),
              ::testing::HasSubstr("optim.loss_scale.init is 1000, no power of 2; the next below is 512"));
  EXPECT_THAT(error_of("{loss_scale: {init: 1024, min: 3}}", o), ::testing::HasSubstr("optim.loss_scale.min is 3"));
  EXPECT_THAT(error_of("{loss_scale: {init: 2, min: 4}}", o), ::testing::HasSubstr("below min"));
  EXPECT_THAT(error_of("{loss_scale: {growth_interval: 0}}", o), ::testing::HasSubstr("growth_interval"));
}

}  // namespace
}  // namespace deepflow
