// Random layouts against one rank, for tests/bench/random_layouts.py: every rank runs this program. Prints one JSON
// object a case on rank 0, and before it the case on stderr, for what ends the job.

#include "core/error.h"
#include "parallel/bootstrap.h"
#include "tests/engine/course.h"
#include "tests/engine/random_layout.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace deepflow {
namespace {

using namespace testing;

constexpr int kSteps = 20;
constexpr double kSecondsToHang = 120;

struct Request {
  int64_t cases = 10, first = 0;
  uint64_t seed = 1;
  bool spread = false, curves = false, list = false;
};

// How far one rank is from itself when only the order of its sums is another: with other micro-batches.
double spread_of_one_rank(TinyOptions options, const Course& expected) {
  double most = 0;
  for (int64_t m = 1; m <= options.train.global_batch; ++m) {
    if (options.train.global_batch % m != 0) continue;
    options.train.micro_batch = m;
    most = std::max(most, worst(course_of_one_rank(options, kSteps).curve, expected.curve));
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
  outcome.course = take_course(run, kSteps);
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
  const Course expected = course_of_one_rank(c.options, kSteps);
  const Apart apart = compare(got, expected);
  nlohmann::json line{{"case", number}, {"layout", c.text}, {"max_rel", apart.max_rel}, {"bit_identical", same}};
  if (apart.moved.choices > 0) line["choices"] = apart.moved.choices, line["moved"] = apart.moved.all;
  if (apart.moved.all > 0) line["gap"] = apart.gap, line["max_rel_before"] = apart.max_rel_before;
  if (asked.spread || !(apart.max_rel <= kCurveLimit))
    line["spread_of_one_rank"] = spread_of_one_rank(c.options, expected);
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
