#pragma once

#include "core/dtype.h"
#include "core/runtime.h"

namespace deepflow {

// FLOP/s of the packed GEMM of this rank's threads, best of several runs of a shape that suits the machine, measured
// for about `seconds`. The yardstick of MFU.
double measure_gemm_peak(Runtime& runtime, DType dtype, double seconds);

}  // namespace deepflow
