#include "parallel/schedules/interleaved_1f1b.h"

#include "parallel/schedules/one_f_one_b.h"
#include "parallel/schedules/placement.h"

#include <algorithm>

namespace deepflow {
namespace {

struct Visit {
  int turn, micro_batch;  // turn: which of the rank's chunks, in the order of the model
};

// The order in which every rank runs forward; backward is the same with the turns reversed.
std::vector<Visit> visits_of(int num_ranks, int chunks_per_rank, int num_micro_batches) {
  std::vector<Visit> visits;
  const int num_groups = std::max(1, num_micro_batches / num_ranks);
  for (int group = 0, begin = 0; group < num_groups; ++group) {
    const int size = num_micro_batches / num_groups + (group < num_micro_batches % num_groups ? 1 : 0);
    for (int turn = 0; turn < chunks_per_rank; ++turn)
      for (int m = begin; m < begin + size; ++m) visits.push_back({turn, m});
    begin += size;
  }
  return visits;
}

}  // namespace

Schedule make_interleaved_1f1b(int num_ranks, int chunks_per_rank, int num_micro_batches) {
  if (num_ranks == 1) return single_rank_schedule(chunks_per_rank, num_micro_batches);
  if (chunks_per_rank == 1) return make_1f1b(num_ranks, 1, num_micro_batches);
  Schedule schedule = looped_placement(num_ranks, chunks_per_rank, num_micro_batches);
  const std::vector<Visit> visits = visits_of(num_ranks, chunks_per_rank, num_micro_batches);
  const int num_visits = static_cast<int>(visits.size());
  const int num_groups = std::max(1, num_micro_batches / num_ranks);
  const int largest_group = (num_micro_batches + num_groups - 1) / num_groups;
  for (int r = 0; r < num_ranks; ++r) {
    std::vector<Action>& list = schedule.of_rank[static_cast<size_t>(r)];
    const auto forward = [&](int i) {
      const Visit& v = visits[static_cast<size_t>(i)];
      list.push_back({Do::kF, v.turn * num_ranks + r, v.micro_batch});
    };
    const auto backward = [&](int i) {
      const Visit& v = visits[static_cast<size_t>(i)];
      list.push_back({Do::kBW, (chunks_per_rank - 1 - v.turn) * num_ranks + r, v.micro_batch});
    };
    const int ahead = std::min(num_visits, (chunks_per_rank - 1) * largest_group + 2 * (num_ranks - 1 - r));
    for (int i = 0; i < ahead; ++i) forward(i);
    for (int i = 0; i < num_visits; ++i) {
      if (i + ahead < num_visits) forward(i + ahead);
      backward(i);
    }
  }
  return schedule;
}

}  // namespace deepflow
