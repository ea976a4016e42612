#pragma once

#include "core/runtime.h"
#include "core/tensor.h"

namespace deepflow {

// What the threads of a runtime can do, measured in about 20 ms. Bytes are those that cross the memory bus.
struct MachineRates {
  double read;       // bytes/s of a pass that only reads
  double bandwidth;  // bytes/s of a pass that reads and writes in place
  double fma_issue;  // vector FMA instructions/s
};

class RateProbe {
 public:
  explicit RateProbe(Runtime& runtime);
  MachineRates measure();

 private:
  Runtime& runtime_;
  Tensor buffer_;
};

}  // namespace deepflow
