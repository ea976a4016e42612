// One rank goes wrong in the way that argv[1] names; communicator_failure_test.cpp looks at how the job ends.
#include "core/error.h"
#include "parallel/bootstrap.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>
#include <thread>

namespace deepflow {
namespace {

Tensor zeros(int64_t n) {
  const auto memory = std::make_shared<std::vector<float>>(static_cast<size_t>(n));
  return Tensor::wrap(memory->data(), {n}, DType::kF32, {}, memory);
}

void linger() { std::this_thread::sleep_for(std::chrono::seconds(60)); }

using Scenario = void (*)(World&);

void never_arrives(World& world) {
  if (world.rank() == 1) linger();
  world.all().barrier("start")->wait_host();
}

void waits_behind(World& world) {
  world.all().all_reduce(zeros(5), ReduceOp::kSum, "together")->wait_host();
  if (world.rank() == 1) linger();
  const WorkPtr first = world.all().all_reduce(zeros(5), ReduceOp::kSum, "layers.7");
  world.all().all_reduce(zeros(5), ReduceOp::kSum, "layers.6")->wait_host();
}

void never_sends(World& world) {
  if (world.rank() == 1) linger();
  world.all().batch(std::vector<PointToPoint>{{1, false, zeros(9)}}, "activations")->wait_host();
}

void throws(World& world) {
  if (world.rank() == 1) throw ConfigError("recipe.yaml:3: something is wrong");
  world.all().all_reduce(zeros(1 << 20), ReduceOp::kSum, "gradients")->wait_host();
}

void all_throw(World&) { throw ConfigError("recipe.yaml:3: all see it"); }

void throws_a_bug(World& world) {
  if (world.rank() == 1) throw std::logic_error("impossible");
  world.all().barrier("end")->wait_host();
}

void is_killed(World& world) {
  world.all().barrier("start")->wait_host();
  if (world.rank() == 1) std::raise(SIGKILL);
  world.all().all_reduce(zeros(1 << 20), ReduceOp::kSum, "gradients")->wait_host();
}

void leaves(World& world) {
  world.all().barrier("start")->wait_host();
  if (world.rank() == 1) _exit(7);
  world.all().all_reduce(zeros(1 << 20), ReduceOp::kSum, "gradients")->wait_host();
}

void other_name(World& world) {
  world.all().all_reduce(zeros(8), ReduceOp::kSum, world.rank() == 1 ? "layers.2" : "layers.1")->wait_host();
}

void other_size(World& world) {
  world.all().all_reduce(zeros(world.rank() == 1 ? 9 : 8), ReduceOp::kSum, "layers.1")->wait_host();
}

void other_kind(World& world) {
  if (world.rank() == 1) return world.all().barrier("x")->wait_host();
  world.all().broadcast(zeros(8), 0, "x")->wait_host();
}

void other_counts(World& world) {
  const int64_t mine = world.rank() == 1 ? 3 : 4;
  const std::vector<int64_t> counts = world.rank() == 1 ? std::vector<int64_t>{5, 3} : std::vector<int64_t>{4, 4};
  world.all().all_gather(zeros(mine), zeros(8), counts, "parameters")->wait_host();
}

void other_message(World& world) {
  world.all()
      .batch(std::vector<PointToPoint>{{1 - world.rank(), world.rank() == 1, zeros(8 + world.rank())}}, "p2p")
      ->wait_host();
}

int main_of(const std::string& name) {
  static const std::map<std::string, Scenario> scenarios = {
      {"never_arrives", never_arrives}, {"waits_behind", waits_behind},
      {"never_sends", never_sends},     {"throws", throws},
      {"all_throw", all_throw},         {"throws_a_bug", throws_a_bug},
      {"is_killed", is_killed},         {"leaves", leaves},
      {"other_name", other_name},       {"other_size", other_size},
      {"other_kind", other_kind},       {"other_counts", other_counts},
      {"other_message", other_message}, {"unchecked_size", other_size}};
  CommOptions options;
  // Long where another rank's error, which waits a moment for this one's, is the one to be heard.
  options.timeout = name.starts_with("throws") ? 10 : 0.5;
  options.check_collectives = name.starts_with("other_");
  if (const char* dir = std::getenv("FLIGHT_DIR")) options.flight_dir = dir;
  return run_world(options, [&](World& world) {
    scenarios.at(name)(world);
    return 0;
  });
}

}  // namespace
}  // namespace deepflow

int main(int, char** argv) { return deepflow::main_of(argv[1]); }
