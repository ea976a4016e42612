#pragma once

#include "optim/optimizer.h"

#include <functional>

namespace deepflow {

// Elements [begin, begin + count) of piece number `piece` of the domain.
using UpdateRange = std::function<void(size_t piece, int64_t begin, int64_t count)>;

// Calls `update` once for every element of the domain's pieces, in ranges, on all threads. Where the forms of a pack
// lie in panels (kernels/ops/weight_panels.h) and all of it is in the domain, they are written tile by tile while the
// masters are still in the cache. In the end every pack of the store counts as written.
void update_in_tiles(OptimizerDomain& domain, const UpdateRange& update);

}  // namespace deepflow
