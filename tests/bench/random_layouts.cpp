// Random layouts against one rank, for tests/bench/random_layouts.py: every rank runs this program. Prints one JSON
// object a case on rank 0, and before it the case on stderr, for what ends the job.

#include "core/error.h"
#include "parallel/bootstrap.h"
#include "tests/engine/random_layout.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <limits>

namespace deepflow {
namespace {

using namespace testing;

constexpr int kSteps = 20;
constexpr double kLimit = 2e-5;  // of the relative difference, as in random_layouts.py
constexpr double kSecondsToHang = 120;

struct Request {
  int64_t cases = 10, first = 0;
  uint64_t seed = 1;
  bool spread = false, curves = false, list = false;
};

// The largest relative difference; NaN when there is one.
double worst(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = a[i] == b[i] ? 0 : std::abs(a[i] - b[i]) / std::abs(b[i]);
    if (std::isnan(d)) return d;
    most = std::max(most, d);
  }
  return most;
}

// Losses and norms, in turns, and what the routers chose: for every step the loads of all experts of all layers.
struct Course {
  std::vector<double> curve;
  std::vector<std::vector<int64_t>> loads;
  std::vector<double> closest;  // how narrowly experts were chosen, for every step
};

Course course_of(TinyRun& run) {
  Course course;
  for (const StepReport& report : run.train(kSteps)) {
    course.curve.insert(course.curve.end(), {report.loss, report.gradient_norm});
    course.loads.emplace_back();
    course.closest.push_back(std::numeric_limits<double>::infinity());
    for (const ExpertLoad& load : report.experts) {
      course.loads.back().insert(course.loads.back().end(), load.tokens.begin(), load.tokens.end());
      course.closest.back() = std::min(course.closest.back(), load.closest);
    }
  }
  return course;
}

Course course_of_one_rank(TinyOptions options) {
  options.parallel = {};
  TinyRun run(options);
  return course_of(run);
}

// Choices that fell on other experts. From the first one that moved, others follow: weights are no longer the same.
struct Moves {
  int64_t all = 0, choices = 0;
  size_t first = kSteps;  // step in which there are any
};

Moves moves(const Course& a, const Course& b) {
  Moves m;
  for (size_t step = 0; step < a.loads.size(); ++step) {
    int64_t apart = 0;
    for (size_t e = 0; e < a.loads[step].size(); ++e) {
      apart += std::abs(a.loads[step][e] - b.loads[step][e]);
      m.choices += b.loads[step][e];
    }
    m.all += apart / 2;
    if (apart > 0) m.first = std::min(m.first, step);
  }
  return m;
}

// How far one rank is from itself when only the order of its sums is another: with other micro-batches.
double spread_of_one_rank(TinyOptions options, const Course& expected) {
  double most = 0;
  for (int64_t m = 1; m <= options.train.global_batch; ++m) {
    if (options.train.global_batch % m != 0) continue;
    options.train.micro_batch = m;
    most = std::max(most, worst(course_of_one_rank(options).curve, expected.curve));
  }
  return most;
}

struct Outcome {
  Course course;
  std::vector<SavedEntry> state;
};

Outcome train(const TinyOptions& options, Communicator& all) {
  TinyRun run(options, &all);
  Outcome outcome;
  outcome.course = course_of(run);
  outcome.state = save_state(run.trainer());
  return outcome;
}

// On all ranks, down to the last bit.
bool are_equal(const Outcome& a, const Outcome& b, Communicator& all) {
  bool equal = a.course.curve == b.course.curve && a.course.loads == b.course.loads && a.state.size() == b.state.size();
  for (size_t i = 0; equal && i < a.state.size(); ++i) equal = a.state[i].bytes == b.state[i].bytes;
  const double differs = equal ? 0 : 1;
  return sum_doubles(all, std::span(&differs, 1), "bits that differ").front() == 0;
}

// Beside one rank.
void report(int64_t number, const LayoutCase& c, const Course& got, bool same, const Request& asked) {
  const Course expected = course_of_one_rank(c.options);
  const double max_rel = worst(got.curve, expected.curve);
  const Moves moved = moves(got, expected);
  nlohmann::json line{{"case", number}, {"layout", c.text}, {"max_rel", max_rel}, {"bit_identical", same}};
  if (moved.choices > 0) line["choices"] = moved.choices, line["moved"] = moved.all;
  if (moved.all > 0) {
    const auto before = static_cast<std::ptrdiff_t>(2 * moved.first);
    line["gap"] = expected.closest[moved.first];
    line["max_rel_before"] = worst({got.curve.begin(), got.curve.begin() + before},
                                   {expected.curve.begin(), expected.curve.begin() + before});
  }
  if (asked.spread || !(max_rel <= kLimit)) line["spread_of_one_rank"] = spread_of_one_rank(c.options, expected);
  if (asked.curves) line["curve"] = got.curve, line["expected"] = expected.curve;
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

int run(World& world, const Request& asked) {
  for (int64_t i = asked.first; i < asked.first + asked.cases; ++i) {
    const LayoutCase c = draw_layout(asked.seed, i, world.size());
    if (world.rank() == 0) fmt::print(stderr, "case {}: {}\n", i, c.text);
    if (asked.list) continue;
    const Outcome got = train(c.options, world.all());
    const bool same = are_equal(got, train(c.options, world.all()), world.all());
    if (world.rank() == 0) report(i, c, got.course, same, asked);
    world.all().barrier("one rank")->wait_host();
  }
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"random layouts against one rank"};
  deepflow::Request asked;
  app.add_option("--cases", asked.cases);
  app.add_option("--first", asked.first, "number of the first case");
  app.add_option("--seed", asked.seed);
  app.add_flag("--spread", asked.spread, "also how far one rank is from itself with other micro-batches");
  app.add_flag("--curves", asked.curves, "also losses and norms, in turns");
  app.add_flag("--list", asked.list, "say what would run");
  deepflow::CommOptions comm;
  app.add_flag("--check", comm.check_collectives, "compare the calls of all ranks, to tell why they hang");
  CLI11_PARSE(app, argc, argv);
  comm.timeout = deepflow::kSecondsToHang;
  return deepflow::run_world(comm, [&](deepflow::World& world) { return deepflow::run(world, asked); });
}
