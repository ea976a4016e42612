#pragma once

#include "core/dtype.h"
#include "kernels/cpu/isa.h"

namespace deepflow::cpu {

// A block of 64 x 64 elements of a weight [out, in], f32 with `ld` elements from row to row, of which the first `rows`
// rows exist (the others count as zero), rounded to bf16, as the 32 pairs of k by 64 columns that it is in each packed
// form (kernels/ops/weight_panels.h): 8 KiB each, 64-byte aligned, written past the caches. Either may be null.
DF_DECLARE_KERNELS(void write_panel_block(const float* weight, int64_t ld, int64_t rows, BF16* forward,
                                          BF16* input_grad);
                   // Rows [2 pair, 2 pair + 2) of a bf16 matrix [.., cols] with row stride ld, as pairs of panels of 64
                   // columns that are `panel` elements apart. `panels`: at this pair in the first.
                   void write_row_pair(const BF16* rows, int64_t ld, int64_t cols, BF16* panels, int64_t panel);)

}  // namespace deepflow::cpu
