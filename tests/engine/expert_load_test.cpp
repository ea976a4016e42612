#include "engine/expert_load.h"

#include "engine/evaluator.h"
#include "engine/expert_report.h"
#include "tests/engine/tiny_run.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace deepflow {
namespace {

using namespace testing;

TinyOptions with_experts() {
  TinyOptions o;
  o.family = "mixtral";
  o.balance = {};
  return o;
}

std::vector<float> bias_of(TinyRun& run, int layer) {
  const Tensor t =
      run.session().store().master(*run.session().registry().find(fmt::format("layers.{}.moe.router.bias", layer)));
  return {t.data<float>(), t.data<float>() + t.num_elements()};
}

TEST(ExpertLoad, FiguresOfALoad) {
  ExpertLoad even{"a", {4, 4, 4, 4}, 4, 0, 0}, skewed{"b", {8, 0, 0, 0}, 0, 0, 0}, none{"c", {0, 0}, 0, 0, 0};
  EXPECT_DOUBLE_EQ(even.imbalance(), 1);
  EXPECT_DOUBLE_EQ(even.entropy(), 1);
  EXPECT_DOUBLE_EQ(even.dropped_share(), 0.25);
  EXPECT_DOUBLE_EQ(skewed.imbalance(), 4);
  EXPECT_DOUBLE_EQ(skewed.entropy(), 0);
  EXPECT_DOUBLE_EQ(none.imbalance(), 1);
  EXPECT_DOUBLE_EQ(none.entropy(), 1);
  EXPECT_DOUBLE_EQ(none.dropped_share(), 0);
}

TEST(ExpertLoad, CountsEveryChoiceOnceWhateverTheMicroBatches) {
  std::vector<std::vector<int64_t>> loads;
  std::vector<double> losses;
  for (const int64_t micro_batch : {1, 4, 8})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
      TinyOptions o = with_experts();
      o.balance = {.loss = 0.1, .z_loss = 0.1};
      o.train.micro_batch = micro_batch;
      o.recompute = recompute;
      TinyRun run(o);
      const StepReport report = run.train(1).front();
      ASSERT_EQ(report.experts.size(), 2u);
      EXPECT_EQ(report.experts[1].layer, "layers.1.moe");
      EXPECT_EQ(report.experts[1].total(), 8 * o.sequence * o.expert_choices);
      EXPECT_EQ(report.experts[1].dropped, 0);
      loads.push_back(report.experts[0].tokens);
      EXPECT_EQ(loads.back(), loads.front()) << micro_batch;
      losses.push_back(report.experts[1].balance_loss + report.experts[1].z_loss);
      EXPECT_NEAR(losses.back(), losses.front(), 1e-6);
    }
  EXPECT_NEAR(losses.front(), 0.1 + 0.1 * std::pow(std::log(6.0), 2), 0.02);  // nearly even, logits near 0
}

TEST(ExpertLoad, IsThatOfTheStepAndNotOfEvaluations) {
  TinyRun plain(with_experts()), evaluated(with_experts());
  const auto first = plain.train(1), second = plain.train(1);
  evaluated.train(1);
  Machine machine = evaluated.session().machine();
  const HeldOut heldout(some_text(20), 24, Documents::kJoined);
  evaluate(machine, heldout, 0, 1);
  EXPECT_EQ(evaluated.train(1).front().experts[0].tokens, second.front().experts[0].tokens);
}

TEST(ExpertLoad, ADenseModelHasNone) {
  TinyRun run(TinyOptions{});
  EXPECT_TRUE(run.train(1).front().experts.empty());
}

TEST(RouterBias, MovesAgainstTheLoadOfTheWholeStep) {
  TinyOptions o = with_experts();
  o.balance.bias_rate = 0.125;
  o.train.micro_batch = 2;
  o.optim.weight_decay = 0.5;
  TinyRun run(o);
  std::vector<float> expected(static_cast<size_t>(o.experts));
  for (int step = 0; step < 5; ++step) {
    const ExpertLoad load = run.train(1).front().experts[1];
    for (size_t e = 0; e < expected.size(); ++e) {
      const int64_t above = load.tokens[e] * o.experts - load.total();
      expected[e] += above < 0 ? 0.125f : above > 0 ? -0.125f : 0.0f;
    }
    EXPECT_EQ(bias_of(run, 1), expected) << step;
  }
  EXPECT_NE(expected, std::vector<float>(expected.size()));
}

TEST(RouterBias, StaysWhereAStepIsLeftOut) {
  TinyOptions o = with_experts();
  o.balance.bias_rate = 0.125;
  o.train.precision = "f16";
  o.optim.loss_scale.init = 0x1p40;
  TinyRun run(o);
  const StepReport report = run.train(1).front();
  ASSERT_FALSE(report.applied);
  EXPECT_EQ(bias_of(run, 0), std::vector<float>(static_cast<size_t>(o.experts)));
  EXPECT_EQ(report.experts[0].total(), 8 * o.sequence * o.expert_choices);
}

// Mean imbalance of both layers over the last 20 of 80 steps.
double imbalance_of(const ExpertBalance& balance) {
  TinyOptions o = with_experts();
  o.balance = balance;
  o.train.steps = 80;
  TinyRun run(o);
  run.train(60);
  double sum = 0;
  for (const StepReport& report : run.train(20))
    for (const ExpertLoad& load : report.experts) sum += load.imbalance();
  return sum / 40;
}

TEST(Balance, EitherMethodEvensTheLoad) {
  const double alone = imbalance_of({}), loss = imbalance_of({.loss = 0.1}), bias = imbalance_of({.bias_rate = 0.005});
  EXPECT_LT(loss, 0.8 * alone);
  EXPECT_LT(bias, 0.8 * alone);
}

TEST(ExpertReport, TellsTheWorstLayerAndAllFigures) {
  ExpertReport report;
  report.step(1, {});
  EXPECT_FALSE(report.has_experts());
  EXPECT_TRUE(report.scalars().empty());
  report.step(1, {{"layers.0.moe", {6, 2}, 2, 0.5, 0.25}, {"layers.1.moe", {4, 4}, 0, 0.5, 0}});
  ProgressFigures figures;
  report.add_to(figures);
  EXPECT_DOUBLE_EQ(figures.imbalance, 1.5);
  EXPECT_DOUBLE_EQ(figures.dropped, 0.125);
  EXPECT_NE(progress_line(figures).find("  load 1.50  dropped 12 %"), std::string::npos) << progress_line(figures);
  const nlohmann::json json = report.as_json();
  EXPECT_EQ(json["balance_loss"], 1.0);
  EXPECT_EQ(json["layers"][0]["tokens"], nlohmann::json::array({6, 2}));
  EXPECT_EQ(json["layers"][0]["dropped"], 0.25);
  EXPECT_EQ(json["layers"][1]["entropy"], 1.0);
  EXPECT_EQ(report.scalars().size(), 8u);
  EXPECT_NE(report.picture().find("worst layer"), std::string::npos);
}

}  // namespace
}  // namespace deepflow
