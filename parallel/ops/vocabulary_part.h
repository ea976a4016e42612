#pragma once

#include "core/error.h"
#include "core/parameter.h"
#include "parallel/ops/deal.h"

namespace deepflow {

// Which tokens each rank's rows of a table or head [V, D] are: cut by Split{.even = false} over the tp axis alone.
inline Deal vocabulary_deal(const Pack& pack, const TensorParallel& tp) {
  const Parameter& table = *pack.members.front();
  const Deal deal{table.spec.shape[0], tp.size()};
  DF_ASSERT(pack.members.size() == 1 && pack.rows == deal.count(tp.rank()), "{}: {} rows", pack.name, pack.rows);
  DF_ASSERT(pack.rows == 0 || table.boxes.at(0).lo[0] == deal.first(tp.rank()), "{}: not the rows of rank {}",
            pack.name, tp.rank());
  return deal;
}

}  // namespace deepflow
