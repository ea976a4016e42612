#pragma once

#include "tests/twin/twin.h"

namespace twin {

const Config& config();

// Maps memory, shadow and stacks on the first call.
void initialise();

}  // namespace twin
