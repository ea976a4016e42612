#pragma once

#include "engine/machine.h"

namespace deepflow {

// Parameters put together on rank 0 from the ranks that hold their parts, one at a time, so that no rank needs memory
// for more than one whole parameter. Collective over the job: all ranks ask for the same ones in the same order.
class WholeParameters {
 public:
  explicit WholeParameters(Machine& machine) : machine_(machine) {}
  // f32 [spec.shape]; its values are those of the parameter on rank 0 only.
  Tensor operator()(const Parameter& p);

 private:
  struct Part {
    int rank;
    Box box;
  };
  std::vector<Part> parts_of(const Parameter& p) const;

  Machine& machine_;
};

}  // namespace deepflow
