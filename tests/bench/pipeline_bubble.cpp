// Pipeline schedules as they run, beside their plan, for tests/bench/pipeline_bubble.py: every rank runs this program
// and is a stage. Passes take a given time, sleeping, so that all stages have equal work and a host of few cores does
// for many. Prints one JSON object a schedule on rank 0.

#include "engine/measured_schedule.h"
#include "engine/micro_batch.h"
#include "engine/pipeline_executor.h"
#include "engine/run_trace.h"
#include "parallel/bootstrap.h"
#include "parallel/schedule_registry.h"
#include "parallel/schedule_simulator.h"
#include "tests/engine/tiny_run.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace deepflow {
namespace {

using namespace testing;

struct Request {
  std::vector<double> pace = {50, 50, 50};  // ms
  int steps = 3;
  int micro_batches = 0;
  std::vector<std::string> schedules = schedule_names();
  std::string trace = "pipeline_bubble.json";
};

// A layer a chunk, as small as can be.
TinyOptions pipeline_of(const std::string& name, int stages, int micro_batches) {
  const int chunks = schedule_kind(name).max_chunks == 1 ? 1 : 2;
  TinyOptions o;
  o.layers = stages * chunks;
  o.width = 16, o.heads = 2, o.kv_heads = 1, o.ffn = 16, o.sequence = 8;
  o.train.global_batch = micro_batches;
  o.train.micro_batch = 1;
  o.parallel.pp = stages;
  o.parallel.vp = chunks;
  o.parallel.schedule = name;
  o.parallel.layers.assign(static_cast<size_t>(o.layers), 1);
  return o;
}

// The passes of a step, without an update.
void run_step(TinyRun& run, Machine& machine, const PipelineExecutor::Pace& pace) {
  const Batch batch = run.loader().next();
  const Schedule& schedule = run.trainer().schedule();
  machine.store.begin_step(schedule.num_micro_batches, nullptr);
  PipelineExecutor executor(
      machine, {}, stream_rows(machine.rows, 1, batch.sequence),
      [&](int i) { return take_micro_batch(machine.runtime, batch, i, 1, machine.rows); },
      [](int, const ChunkPass&) {});
  executor.set_pace(pace);
  executor.run(schedule);
  machine.store.finish_gradients(machine.stream);
}

struct Measured {
  double bubble = 0, seconds = 0;
};

// Of a step in its trace; on rank 0.
Measured measure_step(TinyRun& run, World& world, const PipelineExecutor::Pace& pace, const std::string& path) {
  Machine machine = run.session().machine();
  RunTrace trace(machine.runtime.trace(), world.all(), 1, 1, path);
  trace.before_step(1);
  run_step(run, machine, pace);
  trace.after_step(1);
  if (world.rank() != 0) return {};
  const ScheduleTimes times = read_measured_schedule(path, run.trainer().schedule());
  return {times.bubble(), times.duration() * 1e-6};
}

nlohmann::json measure(const std::string& name, World& world, const Request& asked) {
  const int micro_batches = asked.micro_batches > 0 ? asked.micro_batches : 2 * world.size();
  const TinyOptions options = pipeline_of(name, world.size(), micro_batches);
  TinyRun run(options, &world.all());
  const PipelineExecutor::Pace pace{asked.pace[0] * 1e-3, asked.pace[1] * 1e-3, asked.pace[2] * 1e-3};
  const SimulationCosts costs{.chunks = {{pace.forward, pace.input_gradient, pace.weight_gradient}}};
  const ScheduleTimes planned = simulate(run.trainer().schedule(), costs).times;

  Machine machine = run.session().machine();
  world.record_spans(&machine.runtime.trace());
  run_step(run, machine, {});  // what a first step sets up
  std::vector<Measured> steps;
  for (int i = 0; i < asked.steps; ++i) steps.push_back(measure_step(run, world, pace, asked.trace));
  world.record_spans(nullptr);
  std::sort(steps.begin(), steps.end(), [](const Measured& a, const Measured& b) { return a.bubble < b.bubble; });
  const Measured middle = steps[steps.size() / 2];
  return {{"schedule", name},
          {"pp", world.size()},
          {"vp", options.parallel.vp},
          {"micro_batches", micro_batches},
          {"planned", planned.bubble()},
          {"measured", middle.bubble},
          {"deviation", std::abs(middle.bubble - planned.bubble()) / planned.bubble()},
          {"step_ratio", middle.seconds / planned.duration()}};
}

int run(World& world, const Request& asked) {
  for (const std::string& name : asked.schedules) {
    const nlohmann::json line = measure(name, world, asked);
    if (world.rank() == 0) std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  CLI::App app{"pipeline schedules as they run, beside their plan"};
  deepflow::Request asked;
  app.add_option("--pace", asked.pace, "ms of forward, input gradient and weight gradient of a chunk")
      ->delimiter(',')
      ->expected(3);
  app.add_option("--steps", asked.steps, "of each the one in the middle counts")->check(CLI::PositiveNumber);
  app.add_option("--micro-batches", asked.micro_batches, "0: two for each stage");
  app.add_option("--schedules", asked.schedules);
  app.add_option("--trace", asked.trace, "file for the trace of each step");
  CLI11_PARSE(app, argc, argv);
  return deepflow::run_world({}, [&](deepflow::World& world) { return deepflow::run(world, asked); });
}
