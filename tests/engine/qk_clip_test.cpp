#include "engine/qk_clip.h"

#include "core/error.h"
#include "tests/engine/tiny_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace deepflow {
namespace {

using namespace testing;
using ::testing::HasSubstr;

constexpr double kHuge = 1e30;

// One layer, whose inputs no clipping changes (deepseek_v3 has a second one behind it, of multi-token prediction), and
// updates of length 0: what a step changes is what clipping does.
TinyOptions still(const std::string& family, double tau) {
  TinyOptions o;
  o.family = family;
  o.layers = 1;
  o.init_std = 0.3f;
  o.dense_layers = 0;
  o.balance = {};
  o.optim.lr = 0;
  o.optim.qk_clip = tau;
  return o;
}

std::vector<TinyOptions> kinds_of_attention() {
  std::vector<TinyOptions> kinds = {still("llama", kHuge), still("llama", kHuge), still("gpt2", kHuge),
                                    still("deepseek_v2", kHuge), still("deepseek_v3", kHuge)};
  kinds[1].kv_heads = kinds[1].heads;
  kinds[1].attention_bias = true;
  kinds[4].query_rank = 12;
  return kinds;
}

std::map<std::string, std::vector<float>> values_of(TinyRun& run) {
  run.session().store().wait_for_masters(run.session().machine().stream);
  std::map<std::string, std::vector<float>> values;
  for (const Parameter& p : run.session().registry().parameters()) {
    const Tensor t = run.session().store().master(p);
    values[p.spec.name].assign(t.data<float>(), t.data<float>() + t.num_elements());
  }
  return values;
}

// Biases begin at 0, which scales to anything.
void fill_biases(TinyRun& run) {
  ResidentStore& store = run.session().store();
  for (const Parameter& p : run.session().registry().parameters())
    if (p.spec.role == Role::kBias)
      for (int64_t i = 0; i < p.local_shape.num_elements(); ++i)
        store.master(p).data<float>()[i] = random_normal(random_site(5, p.spec.name), 0, i);
  store.state_written();
}

// In a step on the first batch of the data.
std::vector<LayerScores> all_scores_of_first_batch(TinyRun& run) {
  run.loader().seek(0);
  return run.train(1).front().scores;
}
std::vector<double> scores_of_first_batch(TinyRun& run) { return all_scores_of_first_batch(run).at(0).largest; }

double between(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[values.size() / 2] + values[values.size() / 2 - 1]) / 2;
}

// The first step's scores, with a tau that about half of the heads exceed.
struct Clipped {
  explicit Clipped(TinyOptions o) {
    {
      TinyRun unclipped(o);
      fill_biases(unclipped);
      before = scores_of_first_batch(unclipped);
    }
    o.optim.qk_clip = tau = between(before);
    run = std::make_unique<TinyRun>(o);
    fill_biases(*run);
    values_before = values_of(*run);
    layers = all_scores_of_first_batch(*run);
    EXPECT_EQ(layers.at(0).largest, before);
  }
  double gamma(const LayerScores& layer, int64_t head) const {
    const double score = layer.largest.at(static_cast<size_t>(head));
    return score > tau ? tau / score : 1;
  }

  std::unique_ptr<TinyRun> run;
  double tau = 0;
  std::vector<double> before;  // of the first layer
  std::vector<LayerScores> layers;
  std::map<std::string, std::vector<float>> values_before;
};

TEST(QkClip, BringsTheLargestScoreOfEachHeadThatExceedsTauToIt) {
  for (const TinyOptions& o : kinds_of_attention()) {
    SCOPED_TRACE(fmt::format("{} {} key heads", o.family, o.kv_heads));
    Clipped clipped(o);
    ASSERT_GT(clipped.tau, 0);
    const std::vector<double> after = scores_of_first_batch(*clipped.run);
    ASSERT_EQ(after.size(), static_cast<size_t>(o.heads));
    int exceeded = 0;
    for (size_t h = 0; h < after.size(); ++h)
      if (clipped.before[h] > clipped.tau) {
        EXPECT_NEAR(after[h], clipped.tau, 1e-5 * clipped.tau) << h;
        ++exceeded;
      } else {
        EXPECT_EQ(after[h], clipped.before[h]) << h;
      }
    EXPECT_EQ(exceeded, 2);
  }
}

// What a head's row of a parameter is multiplied with: power of gamma by the row's place in the head.
struct Expected {
  std::string parameter;
  int64_t per_head;
  std::function<double(int64_t)> power;
};

std::vector<Expected> expected_of(const TinyOptions& o, const std::string& layer) {
  const auto all = [](double power) { return [power](int64_t) { return power; }; };
  const std::string at = layer + ".";
  if (o.family.starts_with("deepseek")) {
    const auto query = [nope = o.nope_dim](int64_t row) { return row < nope ? 0.5 : 1.0; };
    const auto key = [nope = o.nope_dim](int64_t row) { return row < nope ? 0.5 : 0.0; };
    return {{at + (o.query_rank > 0 ? "q_up.weight" : "q.weight"), o.nope_dim + o.rope_dim, query},
            {at + "kv_up.weight", o.nope_dim + o.value_dim, key}};
  }
  if (o.family == "llama" && o.kv_heads < o.heads) return {{at + "q.weight", 8, all(1)}};
  return {{at + "q.weight", 8, all(0.5)},
          {at + "k.weight", 8, all(0.5)},
          {at + "q.bias", 8, all(0.5)},
          {at + "k.bias", 8, all(0.5)}};
}

TEST(QkClip, ScalesQueriesAndKeysAsThePaperSaysAndNothingElse) {
  for (const TinyOptions& o : kinds_of_attention()) {
    SCOPED_TRACE(fmt::format("{} {} key heads", o.family, o.kv_heads));
    Clipped clipped(o);
    auto expected = clipped.values_before;
    for (const LayerScores& layer : clipped.layers)
      for (const Expected& e : expected_of(o, layer.layer)) {
        ASSERT_TRUE(expected.count(e.parameter)) << e.parameter;
        std::vector<float>& values = expected[e.parameter];
        const int64_t rows = e.per_head * o.heads, cols = static_cast<int64_t>(values.size()) / rows;
        for (int64_t row = 0; row < rows; ++row) {
          const double power = e.power(row % e.per_head);
          const auto factor = static_cast<float>(std::pow(clipped.gamma(layer, row / e.per_head), power));
          for (int64_t j = 0; j < cols; ++j) values[static_cast<size_t>(row * cols + j)] *= factor;
        }
      }
    const auto values = values_of(*clipped.run);
    for (const auto& [name, value] : values) EXPECT_EQ(value, expected[name]) << name;
    EXPECT_NE(values, clipped.values_before);
  }
}

// Optimizers write packed forms of the weights beside the masters: those of clipped heads must be made again.
TEST(QkClip, TheNextStepReadsTheClippedWeights) {
  for (const char* precision : {"f32", "bf16"})
    for (const std::string& optimizer : optimizer_names()) {
      TinyOptions o = still("llama", kHuge);
      o.train.precision = precision;
      o.optim.name = optimizer;
      o.optim.block = 8;
      o.width = 256, o.kv_heads = o.heads;  // matrices in whole panels
      Clipped clipped(o);
      const std::vector<double> after = scores_of_first_batch(*clipped.run);
      for (size_t h = 0; h < after.size(); ++h)
        EXPECT_NEAR(after[h], std::min(clipped.before[h], clipped.tau), 0.02 * clipped.tau) << optimizer << " " << h;
    }
}

TEST(QkClip, AHugeTauChangesNoBit) {
  for (const std::string family : {"llama", "gpt2", "deepseek_v2", "deepseek_v3", "mtp"})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
      TinyOptions o;
      o.family = family;
      o.recompute = recompute;
      TinyRun off(o);
      o.optim.qk_clip = kHuge;
      TinyRun on(o);
      EXPECT_EQ(on.curve(4), off.curve(4)) << family;
      EXPECT_EQ(on.masters(), off.masters()) << family;
      const StepReport report = on.train(1).front(), quiet = off.train(1).front();
      EXPECT_EQ(report.scores.size(), family == "mtp" || family == "deepseek_v3" ? 3u : 2u) << family;
      EXPECT_EQ(report.score_figures->clipped, 0);
      EXPECT_TRUE(quiet.scores.empty());
      EXPECT_FALSE(quiet.score_figures);
    }
}

TEST(QkClip, ScoresAreThoseOfAllMicroBatches) {
  std::vector<std::vector<double>> found;
  for (const int64_t micro_batch : {1, 4, 8}) {
    TinyOptions o = still("llama", kHuge);
    o.train.micro_batch = micro_batch;
    TinyRun run(o);
    found.push_back(scores_of_first_batch(run));
    for (size_t h = 0; h < found.back().size(); ++h)
      EXPECT_NEAR(found.back()[h], found.front()[h], 1e-5 * std::abs(found.front()[h])) << micro_batch;
  }
}

TEST(QkClip, KeepsScoresInBoundsThatWouldGrow) {
  TinyOptions o;
  o.init_std = 0.1f;
  o.optim.lr = 2e-2;
  o.optim.qk_clip = kHuge;
  const double free = TinyRun(o).train(30).back().score_figures->largest;
  const double tau = 0.5;
  o.optim.qk_clip = tau;
  const ScoreFigures kept = *TinyRun(o).train(30).back().score_figures;
  EXPECT_GT(free, 4 * tau);
  EXPECT_LT(kept.largest, 2 * tau);
}

TEST(QkClip, WaitsWhereAStepIsLeftOut) {
  TinyOptions o = still("llama", 1e-3);
  o.train.precision = "f16";
  o.optim.loss_scale.init = 0x1p40;
  TinyRun run(o);
  const auto before = values_of(run);
  const StepReport report = run.train(1).front();
  ASSERT_FALSE(report.applied);
  EXPECT_GT(report.score_figures->clipped, 0);
  EXPECT_EQ(values_of(run), before);
}

TEST(QkClip, RefusesModelsWhoseScoresAreBounded) {
  for (const auto& [family, reason] : {std::pair{"qwen3", "queries and keys are normed"}, {"gemma2", "soft cap"}}) {
    TinyOptions o;
    o.family = family;
    std::string message;
    EXPECT_NO_THROW(TinyRun{o});
    o.optim.qk_clip = 100;
    try {
      TinyRun run(o);
    } catch (const ConfigError& e) {
      message = e.what();
    }
    EXPECT_THAT(message, HasSubstr("optim.qk_clip: "));
    EXPECT_THAT(message, HasSubstr(reason));
  }
}

}  // namespace
}  // namespace deepflow
