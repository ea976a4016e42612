#pragma once

#include <cstdint>

namespace twin {

uint64_t accesses_so_far();

}  // namespace twin
