#include "tests/engine/tiny_run.h"

#include <gtest/gtest.h>

#include <set>

namespace deepflow {
namespace {

using namespace testing;

struct Case {
  const char* name;
  TinyOptions options;
};

std::vector<Case> cases() {
  TinyOptions adamw;
  TinyOptions sgd = adamw;
  sgd.optim.name = "sgd";
  sgd.optim.lr = 0.1;
  sgd.optim.nesterov = true;
  TinyOptions dropout = adamw;
  dropout.family = "gpt2";
  dropout.dropout = 0.2f;
  dropout.train.micro_batch = 2;
  TinyOptions bf16 = adamw;
  bf16.train.precision = "bf16";
  bf16.recompute = Recompute::kFull;
  TinyOptions f16 = adamw;
  f16.train.precision = "f16";
  f16.optim.loss_scale.init = 0x1p24;  // steps are left out before and behind the copy
  f16.optim.loss_scale.growth_interval = 2;
  TinyOptions experts = adamw;
  experts.family = "mixtral";
  std::vector<Case> found = {{"experts with a bias", experts}, {"f16", f16},  {"adamw", adamw}, {"sgd", sgd},
                             {"gpt2 with dropout", dropout},   {"bf16", bf16}};
  for (const char* name : {"adamw8bit", "lion", "adafactor", "muon"}) {
    TinyOptions o;
    o.optim.name = name;
    found.push_back({name, o});
    found.back().options.train.precision = found.size() % 2 == 0 ? "f32" : "bf16";
  }
  return found;
}

// A run with the same recipe that nevertheless stands somewhere else: other values, other state, other data.
std::unique_ptr<TinyRun> some_other_run(TinyOptions options) {
  options.initial_seed = 99;
  auto run = std::make_unique<TinyRun>(options);
  run->train(2);
  return run;
}

TEST(TrainerState, CopiedIntoASecondTrainerMakesItContinueBitIdentically) {
  for (const Case& c : cases()) {
    TinyRun first(c.options);
    first.train(5);
    const auto second = some_other_run(c.options);
    ASSERT_NE(first.masters(), second->masters());
    load_state(second->trainer(), save_state(first.trainer()));
    EXPECT_EQ(second->trainer().steps_done(), 5);
    EXPECT_EQ(first.masters(), second->masters()) << c.name;
    EXPECT_EQ(first.curve(6), second->curve(6)) << c.name;
    EXPECT_EQ(first.masters(), second->masters()) << c.name;
  }
}

TEST(TrainerState, IsNoMoreThanWhatContinuationNeeds) {
  const struct {
    const char* optimizer;
    std::vector<std::string> entries;
  } optimizers[] = {{"adamw", {"parameters/", "adamw.m/", "adamw.v/", "trainer/step", "trainer/cursor"}},
                    {"sgd", {"parameters/", "sgd.momentum/", "trainer/step", "trainer/cursor"}},
                    {"lion", {"parameters/", "lion.m/", "trainer/step", "trainer/cursor"}},
                    {"muon", {"parameters/", "muon.momentum/", "muon.adamw_m/", "muon.adamw_v/", "trainer/step"}},
                    {"adafactor", {"adafactor.row/", "adafactor.col/", "adafactor.v/", "trainer/step"}},
                    {"adamw8bit",
                     {"adamw8bit.m/", "adamw8bit.v/", "adamw8bit.m_codes/", "adamw8bit.root_codes/",
                      "adamw8bit.m_scales/", "adamw8bit.root_scales/"}}};
  for (const auto& o : optimizers) {
    TinyOptions options;
    options.optim.name = o.optimizer;
    for (const std::string& left_out : o.entries) {
      TinyRun first(options);
      first.train(5);
      const auto second = some_other_run(options);
      load_state(second->trainer(), save_state(first.trainer()), left_out);
      EXPECT_NE(first.curve(3), second->curve(3)) << "without " << left_out;
    }
  }
}

TEST(TrainerState, NamesEveryParameterOnceForEachOwner) {
  TinyRun run(TinyOptions{});
  std::multiset<std::string> names;
  for (const SavedEntry& s : save_state(run.trainer())) names.insert(s.entry.name);
  for (const Parameter& p : run.session().registry().parameters())
    for (const char* owner : {"parameters/", "adamw.m/", "adamw.v/"}) {
      EXPECT_EQ(names.count(owner + p.spec.name), 1u) << owner << p.spec.name;
      names.erase(owner + p.spec.name);
    }
  EXPECT_EQ(names, (std::multiset<std::string>{"trainer/cursor", "trainer/step"}));
}

TEST(TrainerState, VisitedWithoutAChangeLeavesTheRunAsItIs) {
  const TinyOptions options;
  TinyRun undisturbed(options), visited(options);
  undisturbed.train(3);
  visited.train(3);
  save_state(visited.trainer());
  EXPECT_EQ(undisturbed.curve(3), visited.curve(3));
}

}  // namespace
}  // namespace deepflow
