#include "engine/memory_plan.h"

#include "core/error.h"
#include "engine/micro_batch_size.h"

#include <algorithm>
#include <limits>

namespace deepflow {
namespace {

constexpr int64_t kMaster = 4, kMoments = 8, kGradient = 4;
constexpr double kGigabyte = 1e9;

std::string gigabytes(int64_t bytes) {
  const double size = static_cast<double>(bytes) / kGigabyte;
  return size < 1 ? fmt::format("{:.2g} GB", size) : fmt::format("{:.2f} GB", size);
}

// `shape.layers` policies, the first `changed` of them other than the rest.
std::vector<Recompute> first_of(int64_t layers, int64_t changed, Recompute first, Recompute rest) {
  std::vector<Recompute> policies(static_cast<size_t>(layers), rest);
  std::fill_n(policies.begin(), changed, first);
  return policies;
}

[[noreturn]] void report_too_big(const MemoryPlan& least, const PassShape& shape) {
  throw ConfigError(
      "model.recompute auto: even with every block recomputed a rank needs {}, and its budget is {} "
      "(train.memory_budget, or two thirds of its share of the host's memory): {} of parameters and optimizer "
      "state, {} of activations for {} tokens a micro-batch; lower train.micro_batch or data.sequence, split "
      "the model over more ranks, or raise the budget",
      gigabytes(least.total()), gigabytes(least.budget), gigabytes(least.state), gigabytes(least.activations),
      shape.rows);
}

}  // namespace

int64_t MemoryPlan::count(Recompute policy) const { return std::count(policies.begin(), policies.end(), policy); }

int64_t state_bytes(const StateShape& s) {
  const auto share = [&](int level) {
    const int ranks = s.zero >= level ? s.shards : 1;
    return (s.elements + ranks - 1) / ranks;
  };
  const auto form = static_cast<int64_t>(size_of(s.compute)) * (s.forms == FormsKept::kAll ? 2 : 1);
  const int64_t gradients = s.gradients == GradientMemory::kStays ? kGradient * share(2) : 0;
  return kMoments * share(1) + (kMaster + form) * share(3) + gradients;
}

MemoryPlan plan_memory(const PassShape& shape, int64_t state, int64_t budget) {
  MemoryPlan plan;
  plan.state = state;
  plan.budget = budget;
  const auto fits = [&](std::vector<Recompute> policies) {
    plan.policies = std::move(policies);
    plan.activations = peak_activation_bytes(shape, plan.policies);
    return plan.total() <= budget;
  };
  const int64_t layers = shape.layers;
  for (int64_t k = 0; k <= layers; ++k)
    if (fits(first_of(layers, k, Recompute::kSelective, Recompute::kNone))) return plan;
  for (int64_t k = 1; k <= layers; ++k)
    if (fits(first_of(layers, k, Recompute::kFull, Recompute::kSelective))) return plan;
  report_too_big(plan, shape);
}

std::vector<Recompute> strictest(Communicator& comm, const std::vector<Recompute>& policies) {
  std::vector<double> levels;
  for (const Recompute policy : policies) levels.push_back(static_cast<double>(policy));
  std::vector<Recompute> agreed;
  for (const double level : max_doubles(comm, levels, "recomputation")) agreed.push_back(static_cast<Recompute>(level));
  return agreed;
}

MemoryPlan plan_training(const TrainingMemory& run, const RankLayout& layout, int64_t share) {
  const int64_t micro_batch =
      choose_micro_batch(run.train, layout.data_ranks, run.sequence, layout.model.vocabulary, layout.num_stages);
  PassShape pass;
  pass.model = layout.model;
  for (const LayerRange& chunk : layout.chunks) pass.layers += chunk.end - chunk.begin;
  pass.has_embedding = layout.chunks.front().begin == 0;
  pass.has_head = layout.chunks.back().end == layout.model.layers;
  pass.compute = layout.compute;
  pass.tp = layout.tp;
  pass.cp = layout.cp;
  pass.sequence_parallel = layout.sequence_parallel;
  pass.threads = layout.threads;
  pass.sequence = run.sequence;
  pass.rows = micro_batch * run.sequence;
  pass.in_flight = static_cast<int>(layout.in_flight);
  pass.bucket_elements = run.train.bucket_elements;
  pass.gradients =
      micro_batch * layout.data_ranks < run.train.global_batch ? GradientMemory::kStays : GradientMemory::kGrows;
  StateShape state;
  for (const Pack& pack : layout.registry.packs())
    if (pack.local) state.elements += pack.num_elements();
  state.zero = layout.zero;
  state.shards = layout.shards;
  state.compute = layout.compute;
  state.forms = layout.forms;
  state.gradients = pass.gradients;
  int64_t budget = share > 0 ? share / 3 * 2 : std::numeric_limits<int64_t>::max();
  if (run.train.memory_budget) budget = static_cast<int64_t>(*run.train.memory_budget * kGigabyte);
  MemoryPlan plan = plan_memory(pass, state_bytes(state), budget);
  std::vector<Recompute> of_model(static_cast<size_t>(layout.model.layers), Recompute::kNone);
  auto next = plan.policies.begin();
  for (const LayerRange& chunk : layout.chunks)
    for (int layer = chunk.begin; layer < chunk.end; ++layer) of_model[static_cast<size_t>(layer)] = *next++;
  plan.policies = std::move(of_model);
  return plan;
}

}  // namespace deepflow
