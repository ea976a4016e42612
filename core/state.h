#pragma once

#include "core/parameter.h"
#include "core/tensor.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace deepflow {

// How a value is formed again when the layout changes.
enum class Reshard : uint8_t {
  kSlice,       // boxes of one logical tensor
  kSum,         // contributors may regroup; their total is conserved
  kReplicated,  // the same everywhere
  kDerived,     // can be computed again exactly, stored for speed
};

// One piece of training state as its owner reports it. `value` holds the boxes' elements one box after another, each
// row-major; a reader writes into it in place and then calls `StateOwner::state_written`.
struct StateEntry {
  std::string name;        // logical, unique in the run: "parameters/layers.0...", "adamw.m/layers.0..."
  Shape shape;             // of the whole logical tensor
  std::vector<Box> boxes;  // what of it `value` holds
  int contributor = 0;     // kSum: which batch-axis rank produced it
  Tensor value;
  Reshard rule = Reshard::kSlice;
};
using StateVisitor = std::function<void(StateEntry&)>;

// Everything that must survive a restart belongs to an owner. Checkpoints know nothing else.
class StateOwner {
 public:
  virtual ~StateOwner() = default;
  virtual void visit_state(const StateVisitor& visit) = 0;  // the same entries in the same order every time
  virtual void state_written() {}                           // after a visitor changed values: derived data is stale
};

}  // namespace deepflow
