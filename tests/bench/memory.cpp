// Memory of every rank under one layout after another, for tests/bench/memory.py: every rank runs this program. State
// is what the allocator has handed out between steps, activations what a step takes on top of it; beside each stands
// what the arithmetic of docs/memory.md says. Prints one JSON object a case on rank 0.

#include "parallel/bootstrap.h"
#include "tests/engine/tiny_run.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace deepflow {
namespace {

using namespace testing;

constexpr int64_t kMicroBatch = 4, kMicroBatches = 4;
constexpr int kSteps = 2;  // with ZeRO-3 the first writes down the order of use

struct Case {
  std::string name;
  ParallelOptions parallel;
  Recompute recompute = Recompute::kNone;
  std::string family = "llama";
};

const char* name_of_policy(Recompute policy) {
  return policy == Recompute::kNone ? "none" : policy == Recompute::kSelective ? "selective" : "full";
}

// They keep more than a Llama does.
const char* const kOtherFamilies[] = {"qwen3", "gemma2"};

// Every policy, under a layout that set makes.
template <class F>
void add_policies(std::vector<Case>& cases, const std::string& name, F&& set, const std::string& family = "llama") {
  for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    Case c{
        (family == "llama" ? "" : family + ", ") + name + ", recompute " + name_of_policy(policy), {}, policy, family};
    set(c.parallel);
    cases.push_back(std::move(c));
  }
}

std::vector<Case> cases_for(int ranks) {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, auto&& set) {
    cases.push_back({name, {}});
    set(cases.back().parallel);
  };
  if (ranks == 1) {
    add_policies(cases, "one rank", [](ParallelOptions&) {});
    for (const char* family : kOtherFamilies)
      add_policies(
          cases, "one rank", [](ParallelOptions&) {}, family);
    return cases;
  }
  const std::string n = std::to_string(ranks);
  for (const char* family : kOtherFamilies) {
    add_policies(
        cases, "tp " + n + ", sp", [&](ParallelOptions& p) { p.tp = ranks; }, family);
    add_policies(
        cases, "pp " + n + ", 1f1b", [&](ParallelOptions& p) { p.pp = ranks; }, family);
  }
  for (const int zero : {0, 1, 2, 3})
    add("dp " + n + ", zero " + std::to_string(zero), [&](ParallelOptions& p) { p.zero = zero; });
  for (const bool overlap : {false, true})
    add_policies(cases, "tp " + n + ", sp" + (overlap ? ", overlap" : ""),
                 [&](ParallelOptions& p) { p.tp = ranks, p.tp_overlap = overlap; });
  add_policies(cases, "tp " + n, [&](ParallelOptions& p) { p.tp = ranks, p.sp = false; });
  add_policies(cases, "cp " + n + ", ring", [&](ParallelOptions& p) { p.cp = ranks; });
  add_policies(cases, "cp " + n + ", ulysses",
               [&](ParallelOptions& p) { p.cp = ranks, p.cp_method = ContextMethod::kUlysses; });
  for (const char* schedule : {"1f1b", "gpipe"})
    add_policies(cases, "pp " + n + ", " + schedule, [&](ParallelOptions& p) { p.pp = ranks, p.schedule = schedule; });
  if (ranks < 4) return cases;
  add("dp 2 x tp 2, sp, zero 3", [](ParallelOptions& p) { p.tp = 2, p.zero = 3; });
  add("tp 2 x pp 2, sp, 1f1b", [](ParallelOptions& p) { p.tp = 2, p.pp = 2; });
  add("cp 2 x pp 2, ring, 1f1b", [](ParallelOptions& p) { p.cp = 2, p.pp = 2; });
  add("cp 2 x tp 2, sp, ring", [](ParallelOptions& p) { p.cp = 2, p.tp = 2; });
  return cases;
}

TinyOptions options_for(const Case& c, const std::string& precision, int ranks) {
  TinyOptions o;
  o.family = c.family;
  o.layers = 4, o.width = 256, o.heads = 8, o.kv_heads = 4, o.ffn = 704;
  o.sequence = 256;
  o.text = some_text(400);
  o.recompute = c.recompute;
  o.parallel = c.parallel;
  o.train.precision = precision;
  o.train.bucket_elements = int64_t{1} << 18;
  o.train.micro_batch = kMicroBatch;
  const int data_ranks = ranks / (c.parallel.tp * c.parallel.cp * c.parallel.pp);
  o.train.global_batch = kMicroBatch * kMicroBatches * data_ranks;
  return o;
}

struct Figures {
  double state, expected_state, activations, expected_activations;
};

Figures measure(const TinyOptions& o, Communicator& all) {
  TinyRun run(o, &all);
  const auto stats = [&] { return run.session().runtime().memory().stats(); };
  const int64_t before = stats().peak;
  run.train(kSteps);
  run.session().store().wait_for_masters(run.session().machine().stream);
  const MemoryStats after = stats();
  DF_ASSERT(after.peak > before, "the peak is not that of a step");
  const TrainingMemory memory{o.train, o.sequence, o.optim};
  const RankLayout layout = run.session().layout();
  const PassShape pass = pass_shape(memory, layout);
  const StateShape in_step = state_shape(memory, layout);
  StateShape between = in_step;
  between.gradients = GradientMemory::kStays;
  const std::vector<Recompute> policies(static_cast<size_t>(pass.layers), o.recompute);
  const int64_t peak = state_in_step(in_step) + peak_activation_bytes(pass, policies);
  return {static_cast<double>(after.in_use), static_cast<double>(state_bytes(between)),
          static_cast<double>(after.peak - after.in_use), static_cast<double>(peak - state_bytes(between))};
}

int run(World& world) {
  Communicator& all = world.all();
  for (const char* precision : {"f32", "bf16"})
    for (const Case& c : cases_for(world.size())) {
      const Figures mine = measure(options_for(c, precision, world.size()), all);
      std::vector<double> values(4 * static_cast<size_t>(world.size()));
      const auto at = static_cast<size_t>(4 * world.rank());
      values[at] = mine.state, values[at + 1] = mine.expected_state;
      values[at + 2] = mine.activations, values[at + 3] = mine.expected_activations;
      values = sum_doubles(all, values, "figures");
      nlohmann::json line{{"layout", c.name + ", " + precision}};
      for (size_t r = 0; r < values.size(); r += 4) {
        line["state"].push_back({values[r], values[r + 1]});
        line["activations"].push_back({values[r + 2], values[r + 3]});
      }
      if (world.rank() == 0) std::printf("%s\n", line.dump().c_str());
      std::fflush(stdout);
    }
  return 0;
}

}  // namespace
}  // namespace deepflow

int main() {
  return deepflow::run_world({}, [](deepflow::World& world) { return deepflow::run(world); });
}
