#include "parallel/schedules/one_f_one_b.h"

#include "parallel/schedules/placement.h"

#include <algorithm>

namespace deepflow {

Schedule make_1f1b(int num_ranks, int chunks_per_rank, int num_micro_batches) {
  if (num_ranks == 1) return single_rank_schedule(chunks_per_rank, num_micro_batches);
  Schedule schedule = looped_placement(num_ranks, 1, num_micro_batches);
  for (int r = 0; r < num_ranks; ++r) {
    std::vector<Action>& list = schedule.of_rank[static_cast<size_t>(r)];
    const int ahead = std::min(num_ranks - 1 - r, num_micro_batches);
    for (int m = 0; m < ahead; ++m) list.push_back({Do::kF, r, m});
    for (int m = 0; m < num_micro_batches; ++m) {
      if (m + ahead < num_micro_batches) list.push_back({Do::kF, r, m + ahead});
      list.push_back({Do::kBW, r, m});
    }
  }
  return schedule;
}

}  // namespace deepflow
