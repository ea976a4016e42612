#pragma once

#include "optim/optimizer.h"
#include "optim/piece_state.h"

#include <functional>
#include <vector>

namespace deepflow {

// Elements [begin, begin + count) of piece number `piece` of the domain; master and gradient point to the first.
struct PieceRange {
  size_t piece;
  int64_t begin, count;
  float *master, *gradient;
};
using UpdateRange = std::function<void(const PieceRange&)>;

// Calls `update` once for every element of the pieces that `selects` names, in ranges, on all threads, and marks
// nothing as written: for a pass in front of the update. A range of a matrix is whole rows; of a vector, any part.
void for_each_range(OptimizerDomain& domain, const std::function<bool(const ShardPiece&)>& selects,
                    const UpdateRange& visit, const std::vector<PieceState*>& states);

// Calls `update` once for every element of the domain's pieces, in ranges, on all threads: whole rows of a matrix, or
// columns of one row, cut at multiples of kPanelBlock. Where the forms of a pack
// lie in panels (kernels/ops/weight_panels.h) and all of it is in the domain, they are written tile by tile while the
// masters are still in the cache. In the end every pack of the store counts as written. `states`: what the update
// reads and writes; where it is offloaded, the work goes in groups of pieces that are paged out behind it.
void update_in_tiles(OptimizerDomain& domain, const UpdateRange& update, const std::vector<PieceState*>& states);

}  // namespace deepflow
