#pragma once

#include "core/state.h"
#include "parallel/communicator.h"

#include <map>
#include <string>
#include <vector>

namespace deepflow::testing {

// All state of a run as whole tensors, whoever holds what of them.
struct LogicalState {
  struct Value {
    DType dtype = DType::kF32;
    Shape shape;
    std::vector<char> bytes;
    std::vector<bool> held;  // elements that somebody has
  };
  std::map<std::string, Value> tensors;  // of sums, one for each contributor
  std::vector<std::string> faults;       // elements that nobody has, copies that differ, shapes that depend on the rank
};

// Collective over `world`; null where a rank has no part in the run. The same on every rank.
LogicalState gather_state(StateOwner* owner, Communicator& world);

// Tensors whose values are not the same bits, and the faults of both.
std::vector<std::string> differences(const LogicalState& a, const LogicalState& b);

}  // namespace deepflow::testing
