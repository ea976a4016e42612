#include "engine/memory_plan.h"

#include "core/error.h"
#include "engine/micro_batch_size.h"

#include <algorithm>
#include <limits>

namespace deepflow {
namespace {

constexpr double kGigabyte = 1e9;

double gigabytes(int64_t bytes) { return static_cast<double>(bytes) / kGigabyte; }

std::string readable(int64_t bytes) {
  const double size = gigabytes(bytes);
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
      readable(least.total()), readable(least.budget), readable(least.state), readable(least.activations), shape.rows);
}

std::vector<Action> passes_in_a_row(int count) {
  std::vector<Action> actions;
  for (int m = 0; m < count; ++m) actions.insert(actions.end(), {{Do::kF, 0, m}, {Do::kBW, 0, m}});
  return actions;
}

// Of the vocabulary, on this rank.
int64_t table_rows(const RankLayout& layout) {
  for (const Pack& pack : layout.registry.packs()) {
    const bool is_table = pack.role() == Role::kEmbedding || pack.role() == Role::kHead;
    if (pack.local && is_table && pack.members.front()->spec.shape[0] == layout.model.vocabulary)
      return pack.physical_rows;
  }
  return 0;
}

}  // namespace

int64_t MemoryPlan::count(Recompute policy) const { return std::count(policies.begin(), policies.end(), policy); }

std::string MemoryPlan::describe() const {
  const auto blocks = static_cast<int64_t>(policies.size());
  const int64_t full = count(Recompute::kFull), selective = count(Recompute::kSelective);
  std::string what;
  if (full > 0) what = fmt::format("{} of {} blocks full", full, blocks);
  if (selective > 0)
    what += what.empty() ? fmt::format("{} of {} blocks selective", selective, blocks)
                         : fmt::format(", {} selective", selective);
  if (what.empty()) what = "nothing recomputed";
  const bool open = budget == std::numeric_limits<int64_t>::max();
  return fmt::format("{}, {}{}", what, gigabytes(total()), open ? "" : fmt::format(" of {}", gigabytes(budget)));
}

MemoryPlan plan_memory(const PassShape& shape, const StateMemory& state, int64_t budget) {
  MemoryPlan plan;
  plan.state = state.in_step();
  plan.budget = budget;
  const auto fits = [&](std::vector<Recompute> policies) {
    plan.policies = std::move(policies);
    plan.activations = step_bytes(shape, state, plan.policies);
    return plan.total() <= budget;
  };
  const int64_t layers = shape.layers();
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

PassShape pass_shape(const TrainingMemory& run, const RankLayout& layout) {
  const int64_t micro_batch =
      choose_micro_batch(run.train, layout.data_ranks, run.sequence, layout.model.vocabulary, layout.num_stages);
  const auto count = static_cast<int>(run.train.global_batch / layout.data_ranks / micro_batch);
  const StateMemory state = layout_state(run, layout);
  PassShape pass;
  pass.model = layout.model;
  pass.chunks.clear();
  for (const OwnChunk& chunk : layout.chunks)
    pass.chunks.push_back({chunk.id, chunk.layers.end - chunk.layers.begin, chunk.layers.begin == 0,
                           chunk.layers.end == layout.model.layers, chunk.layers.begin});
  pass.actions = layout.actions ? layout.actions(count) : passes_in_a_row(count);
  pass.compute = layout.store.compute;
  pass.tp = layout.tp;
  pass.cp = layout.cp;
  pass.cp_method = layout.cp_method;
  pass.sequence_parallel = layout.sequence_parallel;
  pass.overlap = layout.overlap;
  pass.expert_ranks = layout.expert_ranks;
  pass.etp = layout.etp;
  pass.threads = layout.runtime.pool().size();
  pass.table_rows = table_rows(layout);
  pass.makes_forms_again = layout.store.forms_kept == FormsKept::kForward;
  pass.sequence = run.sequence;
  pass.rows = micro_batch * run.sequence;
  pass.bucket_elements = run.train.bucket_elements;
  pass.gradient_bytes = state.gradients;
  pass.travelling_bytes = state.travelling;
  return pass;
}

StateMemory layout_state(const TrainingMemory& run, const RankLayout& layout) {
  StateMemory state = state_memory({layout.runtime, layout.registry, layout.store, layout.products,
                                    layout.model.tied_head && layout.chunks.back().layers.end == layout.model.layers,
                                    run.optim, !run.train.offload_optimizer.empty()});
  state.model = layout.model_bytes;
  return state;
}

int64_t step_bytes(const PassShape& pass, const StateMemory& state, const std::vector<Recompute>& policies) {
  const int64_t update = state.between_steps() - state.gathered_ahead + state.update - state.in_step();
  return std::max(peak_activation_bytes(pass, policies), update);
}

MemoryPlan plan_training(const TrainingMemory& run, const RankLayout& layout, int64_t share) {
  int64_t budget = share > 0 ? share / 3 * 2 : std::numeric_limits<int64_t>::max();
  if (run.train.memory_budget) budget = static_cast<int64_t>(*run.train.memory_budget * kGigabyte);
  return plan_memory(pass_shape(run, layout), layout_state(run, layout), budget);
}

MemoryPlan agree(Communicator& comm, const TrainingMemory& run, const RankLayout& layout, int64_t share) {
  MemoryPlan plan;
  std::string too_big;
  try {
    plan = plan_training(run, layout, share);
  } catch (const ConfigError& e) {
    too_big = e.what();
  }
  const double mine_failed = too_big.empty() ? 0 : comm.size() - comm.rank();
  const int failed =
      comm.size() - static_cast<int>(max_doubles(comm, std::span(&mine_failed, 1), "a plan fits").front());
  if (failed < comm.size()) throw ConfigError("{}", broadcast_text(comm, too_big, failed, "what does not fit"));

  std::vector<Recompute> of_model(static_cast<size_t>(layout.model.layers), Recompute::kNone);
  auto next = plan.policies.begin();
  for (const OwnChunk& chunk : layout.chunks)
    for (int layer = chunk.layers.begin; layer < chunk.layers.end; ++layer)
      of_model[static_cast<size_t>(layer)] = *next++;
  of_model = strictest(comm, of_model);
  std::vector<Recompute> mine;
  for (const OwnChunk& chunk : layout.chunks)
    mine.insert(mine.end(), of_model.begin() + chunk.layers.begin, of_model.begin() + chunk.layers.end);
  plan.activations = step_bytes(pass_shape(run, layout), layout_state(run, layout), mine);
  plan.policies = std::move(of_model);
  return plan;
}

}  // namespace deepflow
