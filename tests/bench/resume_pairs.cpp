// Runs that are saved on one random layout and go on on another, for tests/bench/resume_pairs.py: every rank runs this
// program. Prints one JSON object a pair on rank 0, and before it the pair on stderr, for what ends the job.

#include "parallel/bootstrap.h"
#include "tests/checkpoint/shared_scratch.h"
#include "tests/engine/resumed_pair.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace deepflow {
namespace {

using namespace testing;

constexpr double kSecondsToHang = 120;

struct Request {
  int64_t cases = 10, first = 0;
  uint64_t seed = 1;
  int steps = 10;
  bool curves = false, list = false;
};

void report(int64_t number, const LayoutPair& pair, const ResumedPair& done, const Request& asked) {
  const Apart apart = compare(done.course, done.expected);
  const bool exact = pair.first.train.precision == "f32" || done.course.curve == done.expected.curve;
  nlohmann::json line{{"case", number},
                      {"layout", pair.text},
                      {"drawn", pair.drawn},
                      {"max_rel", apart.max_rel},
                      {"bit_identical", done.faults.empty() && exact}};
  if (!done.faults.empty()) line["faults"] = done.faults;
  if (apart.moved.choices > 0) line["choices"] = apart.moved.choices, line["moved"] = apart.moved.all;
  if (apart.moved.all > 0) line["gap"] = apart.gap, line["max_rel_before"] = apart.max_rel_before;
  if (asked.curves) line["curve"] = done.course.curve, line["expected"] = done.expected.curve;
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

int run(World& world, const Request& asked) {
  for (int64_t i = asked.first; i < asked.first + asked.cases; ++i) {
    const LayoutPair pair = draw_pair(asked.seed, i, world.size(), asked.steps);
    if (world.rank() == 0) fmt::print(stderr, "case {}: {}\n", i, pair.text);
    if (asked.list) continue;
    const SharedScratch folder(world.all());
    const ResumedPair done = run_pair(pair, world.all(), folder / "c");
    if (world.rank() == 0) report(i, pair, done, asked);
  }
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"checkpoints of one layout resumed on another"};
  deepflow::Request asked;
  app.add_option("--cases", asked.cases);
  app.add_option("--first", asked.first, "number of the first pair");
  app.add_option("--seed", asked.seed);
  app.add_option("--steps", asked.steps, "of both runs together");
  app.add_flag("--curves", asked.curves, "also losses and norms, in turns");
  app.add_flag("--list", asked.list, "say what would run");
  deepflow::CommOptions comm;
  app.add_flag("--check", comm.check_collectives, "compare the calls of all ranks, to tell why they hang");
  CLI11_PARSE(app, argc, argv);
  comm.timeout = deepflow::kSecondsToHang;
  return deepflow::run_world(comm, [&](deepflow::World& world) { return deepflow::run(world, asked); });
}
