#pragma once

#include "tests/twin/thread_block.h"

namespace twin {

constexpr unsigned kWarpSize = 32;

const char* operation_name(WarpOperation operation);

// Carries out the operation at which all 32 lanes wait. False, with a report, when they stand at different ones.
bool complete_warp_operation(const Thread* lanes);

}  // namespace twin
