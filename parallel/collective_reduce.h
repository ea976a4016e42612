#pragma once

#include "core/dtype.h"
#include "parallel/communicator.h"

#include <cstdint>
#include <span>

namespace deepflow {

// target[i] = sources[0][i] op sources[1][i] op ..., in that order; f32 accumulation for floating dtypes, i64 for i32
// and i64, one rounding at the end. `target` may be one of the sources. One thread.
void reduce_in_order(std::span<const void* const> sources, void* target, int64_t count, DType dtype, ReduceOp op);

bool is_reducible(DType dtype);  // all but u8

}  // namespace deepflow
