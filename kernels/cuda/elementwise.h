#pragma once

#include "core/dtype.h"
#include "core/stream.h"

#include <cstdint>

namespace deepflow::cuda {

// kernels/cpu/elementwise.h on device memory, enqueued on the stream: runs of n neighbouring elements, dtypes f32, bf16
// and, in convert, f16. Runs may not overlap unless they are the same.
void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t n, Stream& stream);
void accumulate(void* into, DType into_dtype, const void* x, DType x_dtype, int64_t n, Stream& stream);  // into += x
void scale(void* x, DType dtype, int64_t n, float factor, Stream& stream);
void fill(void* x, DType dtype, int64_t n, float value, Stream& stream);

// rows runs of `bytes` bytes, from_pitch and to_pitch bytes apart, between device memory and device or pinned memory.
void copy_rows(const void* from, int64_t from_pitch, void* to, int64_t to_pitch, int64_t bytes, int64_t rows,
               Stream& stream);

}  // namespace deepflow::cuda
