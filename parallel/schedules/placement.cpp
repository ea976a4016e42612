#include "parallel/schedules/placement.h"

namespace deepflow {
namespace {

Schedule empty_schedule(int num_ranks, int num_chunks, int num_micro_batches) {
  Schedule schedule;
  schedule.rank_of_chunk.resize(static_cast<size_t>(num_chunks));
  schedule.of_rank.resize(static_cast<size_t>(num_ranks));
  schedule.num_micro_batches = num_micro_batches;
  return schedule;
}

}  // namespace

Schedule looped_placement(int num_ranks, int chunks_per_rank, int num_micro_batches) {
  Schedule schedule = empty_schedule(num_ranks, num_ranks * chunks_per_rank, num_micro_batches);
  for (int chunk = 0; chunk < schedule.num_chunks(); ++chunk)
    schedule.rank_of_chunk[static_cast<size_t>(chunk)] = chunk % num_ranks;
  return schedule;
}

Schedule v_placement(int num_ranks, int num_micro_batches) {
  Schedule schedule = empty_schedule(num_ranks, 2 * num_ranks, num_micro_batches);
  for (int chunk = 0; chunk < schedule.num_chunks(); ++chunk)
    schedule.rank_of_chunk[static_cast<size_t>(chunk)] = chunk < num_ranks ? chunk : 2 * num_ranks - 1 - chunk;
  return schedule;
}

Schedule single_rank_schedule(int num_chunks, int num_micro_batches) {
  Schedule schedule = looped_placement(1, num_chunks, num_micro_batches);
  std::vector<Action>& list = schedule.of_rank.front();
  for (int m = 0; m < num_micro_batches; ++m) {
    for (int chunk = 0; chunk < num_chunks; ++chunk) list.push_back({Do::kF, chunk, m});
    for (int chunk = num_chunks - 1; chunk >= 0; --chunk) list.push_back({Do::kBW, chunk, m});
  }
  return schedule;
}

Schedule with_first_micro_batches(const Schedule& schedule, int num_micro_batches) {
  Schedule result = schedule;
  result.num_micro_batches = num_micro_batches;
  for (std::vector<Action>& list : result.of_rank) {
    std::vector<Action> kept;
    for (const Action& a : list) {
      const bool keep = a.micro_batch < num_micro_batches;
      if (a.what != Do::kOverlapFB) {
        if (keep) kept.push_back(a);
        continue;
      }
      const bool keep_b = a.b_micro_batch < num_micro_batches;
      if (keep && keep_b) kept.push_back(a);
      if (keep && !keep_b) kept.push_back({Do::kF, a.chunk, a.micro_batch});
      if (!keep && keep_b) kept.push_back({Do::kBW, a.b_chunk, a.b_micro_batch});
    }
    list = std::move(kept);
  }
  return result;
}

}  // namespace deepflow
