// Memory of every rank under one layout after another, for tests/bench/memory.py: every rank runs this program. State
// is what the allocator has handed out between steps, activations what a step takes on top of it; beside each stands
// what the arithmetic of docs/memory.md says. Prints one JSON object a case on rank 0. An argument is a part of the
// names of the cases to run.

#include "parallel/bootstrap.h"
#include "tests/engine/measured_memory.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace deepflow {
namespace {

using namespace testing;

constexpr int64_t kMicroBatch = 4, kMicroBatches = 4;

struct Case {
  std::string name;
  ParallelOptions parallel;
  Recompute recompute = Recompute::kNone;
  std::string family = "llama";
  std::string optimizer = "adamw";
};

const char* name_of_policy(Recompute policy) {
  return policy == Recompute::kNone ? "none" : policy == Recompute::kSelective ? "selective" : "full";
}

// They keep more than a Llama does.
const char* const kOtherFamilies[] = {"qwen3", "gemma2", "deepseek_v3"};

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

// What an optimizer keeps, and takes for its update.
template <class F>
void add_optimizers(std::vector<Case>& cases, const std::string& name, F&& set) {
  for (const char* optimizer : {"muon", "adamw8bit", "adafactor"}) {
    // Everything is made again, so that an update may be what takes most.
    Case c{name + ", " + optimizer, {}, Recompute::kFull, "llama", optimizer};
    set(c.parallel);
    cases.push_back(std::move(c));
  }
}

// Experts whole, or in halves, on each rank.
void add_expert_layouts(std::vector<Case>& cases, int ranks) {
  const std::string n = std::to_string(ranks);
  const auto add = [&](const std::string& name, auto&& set) { add_policies(cases, name, set, "mixtral"); };
  add("dp " + n, [](ParallelOptions&) {});
  add("dp " + n + ", ep " + n, [&](ParallelOptions& p) { p.ep = ranks; });
  add("dp " + n + ", etp 2, zero 2", [](ParallelOptions& p) { p.etp = 2, p.zero = 2; });
  add("tp " + n + ", sp, ep " + n, [&](ParallelOptions& p) { p.tp = ranks, p.ep = ranks; });
  add("cp " + n + ", ring, ep 2", [&](ParallelOptions& p) { p.cp = ranks, p.ep = 2; });
  add("pp " + n + ", zb_h1", [&](ParallelOptions& p) { p.pp = ranks, p.schedule = "zb_h1"; });
  if (ranks < 4) return;
  add("dp 4, ep 2, zero 1", [](ParallelOptions& p) { p.ep = 2; });
  add("tp 4, ep 2, etp 2", [](ParallelOptions& p) { p.tp = 4, p.sp = false, p.ep = 2, p.etp = 2; });
}

std::vector<Case> cases_for(int ranks) {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, auto&& set) {
    cases.push_back({name, {}});
    set(cases.back().parallel);
  };
  if (ranks == 1) {
    add_policies(cases, "one rank", [](ParallelOptions&) {});
    for (const char* family : {"qwen3", "gemma2", "mixtral", "deepseek_v3"})
      add_policies(
          cases, "one rank", [](ParallelOptions&) {}, family);
    add_optimizers(cases, "one rank", [](ParallelOptions&) {});
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
  for (const char* schedule : {"1f1b", "gpipe", "zb_h1"})
    add_policies(cases, "pp " + n + ", " + schedule, [&](ParallelOptions& p) { p.pp = ranks, p.schedule = schedule; });
  add_optimizers(cases, "tp " + n + ", sp", [&](ParallelOptions& p) { p.tp = ranks; });
  add_optimizers(cases, "dp " + n + ", zero 1", [](ParallelOptions&) {});
  add_expert_layouts(cases, ranks);
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
  if (c.family == "mixtral" || c.family == "deepseek_v3") o.experts = 4, o.ffn = 256;
  if (c.family == "deepseek_v3") {
    o.query_rank = 96, o.latent_rank = 64, o.nope_dim = 32, o.rope_dim = 16, o.value_dim = 32;
    o.dense_layers = 0;
  }
  o.optim.name = c.optimizer;
  o.optim.block = 16;
  o.recompute = c.recompute;
  o.parallel = c.parallel;
  o.train.precision = precision;
  o.train.bucket_elements = int64_t{1} << 18;
  o.train.micro_batch = kMicroBatch;
  const int data_ranks = ranks / (c.parallel.tp * c.parallel.cp * c.parallel.pp);
  // Loads are counted by step: with one micro-batch they are those that the peak has to do with.
  const bool spreads_experts = c.parallel.ep > 1 || c.parallel.etp > 1;
  o.train.global_batch = kMicroBatch * (spreads_experts ? 1 : kMicroBatches) * data_ranks;
  return o;
}

// only: a part of the names of the cases to run.
int run(World& world, const std::string& only) {
  Communicator& all = world.all();
  for (const char* precision : {"f32", "bf16"})
    for (const Case& c : cases_for(world.size())) {
      const std::string name = c.name + ", " + precision;
      if (name.find(only) == std::string::npos) continue;
      const MeasuredMemory mine = measure_memory(options_for(c, precision, world.size()), all);
      std::vector<double> values(4 * static_cast<size_t>(world.size()));
      const auto at = static_cast<size_t>(4 * world.rank());
      values[at] = mine.state, values[at + 1] = mine.expected_state;
      values[at + 2] = mine.activations, values[at + 3] = mine.expected_activations;
      values = sum_doubles(all, values, "figures");
      nlohmann::json line{{"layout", name}};
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

int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  return deepflow::run_world({}, [&](deepflow::World& world) { return deepflow::run(world, only); });
}
