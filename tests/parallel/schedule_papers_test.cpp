// What the papers state of bubble and memory, on the lowered lists of the simulator.

#include "parallel/schedule_lowering.h"
#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

constexpr double kTolerance = 1e-9;

Simulation simulated(const char* name, int p, int v, int m, const SimulationCosts& costs = {}) {
  return simulate(lower(make_schedule(name, p, v, m), 0), costs);
}

std::string where(const char* name, int p, int v, int m) {
  return std::string(name) + " p " + std::to_string(p) + " v " + std::to_string(v) + " m " + std::to_string(m);
}

double largest(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

// Every schedule on 1 to 16 ranks with 1 to 64 micro-batches, at every level of ZeRO in turn.
class EverySchedule : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(EverySchedule, IsProvenOverTheWholeRange) {
  const char* const name = GetParam().first;
  const int v = GetParam().second;
  for (int p = 1; p <= 16; ++p)
    for (int m = 1; m <= 64; ++m) {
      const int zero = (p + m) % 4;
      const Schedule schedule = make_schedule(name, p, v, m);
      ASSERT_EQ(schedule.num_ranks(), p);
      ASSERT_EQ(schedule.num_chunks(), p * v);
      const Simulation step = simulate(lower(schedule, zero), {}, zero);
      ASSERT_EQ(step.error, "") << where(name, p, v, m) << " zero " << zero;
      // No rank holds more than its chunks' share of all micro-batches, and nobody is faster than its own work.
      ASSERT_LE(largest(step.peak_activations), v * m);
      ASSERT_GE(step.times.duration() + kTolerance, 3.0 * v * m);
      for (int r = 0; r < p; ++r) ASSERT_NEAR(step.times.busy(r), 3.0 * v * m, kTolerance);
      if (m % 4 == 0) {
        const Simulation forward = simulate(lower(forward_only(schedule), zero), {}, zero, Pass::kForward);
        ASSERT_EQ(forward.error, "") << where(name, p, v, m) << " forward, zero " << zero;
        ASSERT_NEAR(forward.times.busy(p - 1), v * m, kTolerance);
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Schedules, EverySchedule,
                         testing::Values(std::pair("gpipe", 1), std::pair("1f1b", 1), std::pair("interleaved_1f1b", 1),
                                         std::pair("interleaved_1f1b", 2), std::pair("interleaved_1f1b", 3),
                                         std::pair("interleaved_1f1b", 4), std::pair("zb_h1", 1), std::pair("zb_v", 2),
                                         std::pair("dualpipev", 2)),
                         [](const auto& case_of) {
                           return std::string(case_of.param.first) + "_" + std::to_string(case_of.param.second);
                         });

TEST(GPipe, BubbleAndActivationsAreThePapers) {
  for (int p = 2; p <= 16; ++p)
    for (const int m : {1, 2, 5, p - 1, p, 3 * p, 64}) {
      const Simulation step = simulated("gpipe", p, 1, m);
      EXPECT_NEAR(step.times.bubble(), (p - 1.0) / (m + p - 1), kTolerance) << where("gpipe", p, 1, m);
      for (const double peak : step.peak_activations) EXPECT_EQ(peak, m);
    }
}

TEST(OneFOneB, BubbleAndActivationsAreThePapers) {
  for (int p = 2; p <= 16; ++p)
    for (const int m : {1, 2, 5, p - 1, p, 3 * p, 64}) {
      const Simulation step = simulated("1f1b", p, 1, m);
      EXPECT_NEAR(step.times.bubble(), (p - 1.0) / (m + p - 1), kTolerance) << where("1f1b", p, 1, m);
      for (int r = 0; r < p; ++r) EXPECT_EQ(step.peak_activations[static_cast<size_t>(r)], std::min(m, p - r));
    }
}

TEST(Interleaved, BubbleAndActivationsAreThePapersWhereRanksDivideMicroBatches) {
  for (int p = 2; p <= 16; ++p)
    for (int v = 2; v <= 4; ++v)
      for (int m = p; m <= 64; m += p) {
        const Simulation step = simulated("interleaved_1f1b", p, v, m);
        EXPECT_NEAR(step.times.bubble(), (p - 1.0) / (m * v + p - 1), kTolerance) << where("interleaved_1f1b", p, v, m);
        for (int r = 0; r < p; ++r)
          EXPECT_EQ(step.peak_activations[static_cast<size_t>(r)], std::min(m * v, (v - 1) * p + 2 * (p - 1 - r) + 1));
      }
}

TEST(Interleaved, BubbleIsTheSameWhereRanksDoNotDivideMicroBatches) {
  for (int p = 2; p <= 16; ++p)
    for (int v = 2; v <= 4; ++v)
      for (int m = p; m <= 64; ++m)
        EXPECT_NEAR(simulated("interleaved_1f1b", p, v, m).times.bubble(), (p - 1.0) / (m * v + p - 1), kTolerance)
            << where("interleaved_1f1b", p, v, m);
}

TEST(ZbH1, BubbleIsAThirdOf1F1BsWithItsActivations) {
  for (int p = 2; p <= 16; ++p)
    for (const int m : {p, p + 1, 2 * p, 3 * p + 1, 64}) {
      const Simulation step = simulated("zb_h1", p, 1, m), plain = simulated("1f1b", p, 1, m);
      const double idle = step.times.duration() - 3.0 * m, idle_of_1f1b = plain.times.duration() - 3.0 * m;
      EXPECT_NEAR(idle, idle_of_1f1b / 3, kTolerance) << where("zb_h1", p, 1, m);
      for (const double peak : step.peak_activations) EXPECT_EQ(peak, p);
    }
}

TEST(ZbH1, BubbleFollowsThePapersFormulaForOtherCosts) {
  SimulationCosts costs;
  costs.chunks = {{1.0, 1.2, 0.8}};  // (p - 1) (F + B - W), section 3.1 and table 1
  for (const int p : {2, 4, 8}) {
    const int m = 3 * p;
    EXPECT_NEAR(simulated("zb_h1", p, 1, m, costs).times.duration(), 3.0 * m + (p - 1) * 1.4, 1e-6) << p;
  }
}

TEST(ZbV, NoRankIdlesAndActivationsAreThoseOf1F1B) {
  for (int p = 2; p <= 16; ++p)
    for (const int m : {2 * p, 2 * p + 1, 3 * p, 64}) {
      const Simulation step = simulated("zb_v", p, 2, m);
      for (int r = 0; r < p; ++r) EXPECT_NEAR(step.times.idle_inside(r), 0, kTolerance) << where("zb_v", p, 2, m) << r;
      EXPECT_NEAR(step.times.duration(), 6.0 * m + p - 1, kTolerance) << where("zb_v", p, 2, m);
      EXPECT_EQ(largest(step.peak_activations), 2 * p);
    }
}

TEST(DualPipeV, BubbleAndActivationsAreDeepSeeks) {
  for (int p = 2; p <= 16; ++p)
    for (const int m : {2 * p, 2 * p + 1, 3 * p, 64}) {
      const Simulation step = simulated("dualpipev", p, 2, m);
      const double f_and_b = 3, full_b = 2, w = 1;
      EXPECT_NEAR(step.times.duration(), 6.0 * m + (p - 1) * (f_and_b + full_b - 3 * w), kTolerance)
          << where("dualpipev", p, 2, m);
      EXPECT_EQ(largest(step.peak_activations), 2 * p + 1);
    }
}

}  // namespace
}  // namespace deepflow
