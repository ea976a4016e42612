#pragma once

#include "core/context.h"
#include "data/packing.h"
#include "engine/machine.h"

namespace deepflow {

// What one pass reads on this rank: the rows of some samples that the layout gives it.
struct MicroBatch {
  Tensor tokens, labels;  // i32 [rows]
  // Where RowPlacement::looks_ahead: token and label of the row behind each one in its whole sequence, wherever that is
  // worked on. Rows at the end of a sequence or document have none: their own token, and a masked label.
  Tensor next_tokens, next_labels;
  RowInfo rows;
};

// Rows of the residual stream that this rank holds of `count` samples.
int64_t stream_rows(const RowPlacement& placement, int64_t count, int64_t sequence);

// Samples [first, first + count) of a batch. Without spans nothing is copied; `batch` outlives the result.
MicroBatch take_micro_batch(Runtime& runtime, const Batch& batch, int64_t first, int64_t count,
                            const RowPlacement& placement = {});

// f32 [rows]: `weight` where there is a label, 0 where it is masked.
Tensor label_weights(Runtime& runtime, const MicroBatch& input, float weight);

}  // namespace deepflow
