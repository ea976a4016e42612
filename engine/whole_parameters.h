#pragma once

#include "engine/machine.h"

namespace deepflow {

// Parameters put together on rank 0 from the ranks that hold their parts, one at a time, so that rank 0 needs memory
// for no more than one whole parameter, and the others for none. Collective over the job: all ranks ask for the same
// ones in the same order.
class WholeParameters {
 public:
  explicit WholeParameters(Machine& machine) : machine_(machine) {}
  // f32 [spec.shape] on rank 0, undefined on the others. With ZeRO-3 the masters of one bucket at a time are gathered
  // on the ranks that share them (ResidentStore::whole_master).
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
