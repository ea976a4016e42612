#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// Rows between their own order and the slots of experts. T: float, BF16 or F16; slots that are -1 have been dropped.
// `begin`, `end`: of the rows of the result in the first two, of the rows m in the third.
DF_DECLARE_KERNELS(
    // to[s] = x[source[s]], rows of `row_bytes`; strides in bytes.
    void gather_rows(const char* x, int64_t stride, const int32_t* source, int64_t row_bytes, char* to, int64_t begin,
                     int64_t end);
    // out[m] = sum over j < k of weights[m, j] y[slot[m, j]], or without weights of y[slot[m, j]], in that order, in
    // f32.
    template <class T> void sum_slots(const T* y, int64_t ld_y, const int32_t* slot, const float* weights, int64_t k,
                                      int64_t cols, T* out, int64_t begin, int64_t end);
    // The gradients of the weighted sum: dy[slot[m, j]] = weights[m, j] dout[m] and dweights[m, j] = <dout[m],
    // y[slot[m, j]]>, 0 where dropped. dy may be y; both have rows of `cols`.
    template <class T>
    void spread_rows(const T* dout, int64_t ld_dout, const T* y, const int32_t* slot, const float* weights, int64_t k,
                     int64_t cols, T* dy, float* dweights, int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
