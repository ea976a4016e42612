#pragma once

#include "tests/engine/tiny_run.h"

#include <string>
#include <vector>

namespace deepflow::testing {

// Bytes of this rank beside what the arithmetic of docs/memory.md says of them.
struct MeasuredMemory {
  double state, expected_state;              // what the allocator has handed out between steps
  double activations, expected_activations;  // what a step takes on top of it
};

// Rows that this rank's experts got in each of its layers, over their even share, mean over the step's micro-batches.
inline std::vector<double> expert_loads_here(TinyRun& run, const StepReport& report, const PassShape& pass) {
  static const std::vector<std::string> kExpertAxes = {"ep", "etp"};
  Mesh& mesh = run.session().machine().mesh;
  const int etp = mesh.size("etp"), owners = mesh.along(kExpertAxes).size() / etp;
  if (report.experts.empty() || owners == 1) return {1};
  const auto owner = static_cast<size_t>(mesh.along(kExpertAxes).rank() / etp);
  std::vector<double> loads;
  for (const ChunkShape& chunk : pass.chunks)
    for (int64_t i = chunk.first; i < chunk.first + chunk.layers; ++i) {
      loads.push_back(1);
      if (i < pass.model.dense_layers) continue;
      const ExpertLoad& load = report.experts[static_cast<size_t>(i - pass.model.dense_layers)];
      const size_t each = load.tokens.size() / static_cast<size_t>(owners);
      int64_t mine = 0;
      for (size_t e = owner * each; e < (owner + 1) * each; ++e) mine += load.tokens[e];
      loads.back() = static_cast<double>(mine) * owners / static_cast<double>(load.total());
    }
  return loads;
}

// Runs steps until memory is what it will stay: with ZeRO-3 the first one writes down the order of use. The arithmetic
// gets the load of every layer in a step: where experts lie over ranks that is what a peak had to do with only if a
// step is one micro-batch.
inline MeasuredMemory measure_memory(const TinyOptions& o, Communicator& all) {
  TinyRun run(o, &all);
  const auto stats = [&] { return run.session().runtime().memory().stats(); };
  const int64_t before = stats().peak;
  const std::vector<StepReport> reports = run.train(2);
  run.session().store().wait_for_masters(run.session().machine().stream);
  const MemoryStats after = stats();
  DF_ASSERT(after.peak > before, "the peak is not that of a step");
  const TrainingMemory memory{o.train, o.sequence, o.optim};
  const RankLayout layout = run.session().layout();
  PassShape pass = pass_shape(memory, layout);
  const StateMemory state = layout_state(memory, layout);
  const std::vector<Recompute> policies(static_cast<size_t>(pass.layers()), o.recompute);
  int64_t peak = 0;
  for (const StepReport& report : reports) {
    pass.expert_load = expert_loads_here(run, report, pass);
    peak = std::max(peak, state.in_step() + step_bytes(pass, state, policies));
  }
  return {static_cast<double>(after.in_use), static_cast<double>(state.between_steps()),
          static_cast<double>(after.peak - after.in_use), static_cast<double>(peak - state.between_steps())};
}

}  // namespace deepflow::testing
