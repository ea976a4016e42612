#pragma once

#include "core/stream.h"
#include "kernels/cpu/optimizer_update.h"

#include <cstdint>

namespace deepflow::cuda {

// kernels/cpu/optimizer_update.h on device memory, enqueued on the stream: n elements, each read and written once.
void adamw(const cpu::AdamwConstants& constants, float* master, float* m, float* v, const float* gradient, int64_t n,
           Stream& stream);

}  // namespace deepflow::cuda
