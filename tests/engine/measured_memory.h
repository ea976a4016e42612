#pragma once

#include "tests/engine/tiny_run.h"

#include <vector>

namespace deepflow::testing {

// Bytes of this rank beside what the arithmetic of docs/memory.md says of them.
struct MeasuredMemory {
  double state, expected_state;              // what the allocator has handed out between steps
  double activations, expected_activations;  // what a step takes on top of it
};

// Runs steps until memory is what it will stay: with ZeRO-3 the first one writes down the order of use.
inline MeasuredMemory measure_memory(const TinyOptions& o, Communicator& all) {
  TinyRun run(o, &all);
  const auto stats = [&] { return run.session().runtime().memory().stats(); };
  const int64_t before = stats().peak;
  run.train(2);
  run.session().store().wait_for_masters(run.session().machine().stream);
  const MemoryStats after = stats();
  DF_ASSERT(after.peak > before, "the peak is not that of a step");
  const TrainingMemory memory{o.train, o.sequence, o.optim};
  const RankLayout layout = run.session().layout();
  const PassShape pass = pass_shape(memory, layout);
  const StateMemory state = layout_state(memory, layout);
  const std::vector<Recompute> policies(static_cast<size_t>(pass.layers()), o.recompute);
  const int64_t peak = state.in_step() + step_bytes(pass, state, policies);
  return {static_cast<double>(after.in_use), static_cast<double>(state.between_steps()),
          static_cast<double>(after.peak - after.in_use), static_cast<double>(peak - state.between_steps())};
}

}  // namespace deepflow::testing
