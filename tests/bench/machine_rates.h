#pragma once

#include "core/runtime.h"

namespace deepflow {

// What the threads of a runtime can do at best, measured in about 0.3 s.
struct MachineRates {
  double read, update, copy;  // bytes/s crossing the memory bus; a copy's destination is read as well as written
  double fma_issue;           // vector FMA instructions/s
  double bandwidth() const;   // the best of the three
};
MachineRates measure_rates(Runtime& runtime);

}  // namespace deepflow
