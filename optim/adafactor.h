#pragma once

#include "optim/optimizer.h"

namespace deepflow {

// Shazeer & Stern 2018 (Adafactor), algorithm 4 without a first moment: of every logical matrix the second moments are
// kept as means by row and by column (embeddings and heads too; of vectors they are kept whole), the direction is
// scaled down where its root mean square exceeds adafactor.clip, and the step is the learning rate, by choice at most
// 1 / sqrt(step), by choice times the root mean square of the parameter. Decay is decoupled, by the learning rate.
//
// Means, root mean squares and clipping are of whole logical matrices. Where ranks have parts of one, they send their
// sums (a number a row and a column) to one of them and get the totals back.
std::unique_ptr<Optimizer> make_adafactor(const OptimOptions& options, OptimizerDomain domain);
int64_t adafactor_state_bytes(const OptimOptions& options, const ShardPiece& piece);

}  // namespace deepflow
