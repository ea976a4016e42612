#include "parallel/schedules/zb_v.h"

#include "parallel/schedules/placement.h"

#include <algorithm>

namespace deepflow {
namespace {

// The list of one rank: what it did so far of its two chunks, each in the order of micro-batches.
class RankList {
 public:
  RankList(std::vector<Action>& list, int first_chunk, int second_chunk)
      : list_(list), chunk_{first_chunk, second_chunk} {}

  void f(int side) { list_.push_back({Do::kF, chunk_[side], num_f_[side]++}); }
  void b(int side) { list_.push_back({Do::kB, chunk_[side], num_b_[side]++}); }
  void w(int side) { list_.push_back({Do::kW, chunk_[side], num_w_[side]++}); }
  int num_f(int side) const { return num_f_[side]; }
  int num_b(int side) const { return num_b_[side]; }
  int num_w(int side) const { return num_w_[side]; }

 private:
  std::vector<Action>& list_;
  int chunk_[2];
  int num_f_[2] = {}, num_b_[2] = {}, num_w_[2] = {};
};

void fill(RankList list, int rank, int num_ranks, int num_micro_batches) {
  // Until the first micro-batch has gone down the V and comes up again, forwards of the first chunk.
  for (int i = 0; i < 2 * (num_ranks - rank) - 1; ++i) list.f(0);
  for (int i = 0; i < rank; ++i) {
    list.f(1);
    list.f(0);
  }
  // Gradients come down the other side.
  for (int i = 0; i < num_ranks - rank; ++i) {
    list.f(1);
    list.b(1);
    list.w(1);
  }
  while (list.num_f(1) < num_micro_batches) {
    if (list.num_f(0) < num_micro_batches) list.f(0);
    list.b(0);
    list.w(0);
    list.f(1);
    list.b(1);
    list.w(1);
  }
  // Nothing goes forward any more: weight gradients fill the gaps.
  for (int i = 0; i < rank; ++i) {
    list.b(0);
    list.b(1);
  }
  while (list.num_b(0) < num_micro_batches) {
    list.b(0);
    list.w(0);
  }
  while (list.num_w(1) < num_micro_batches) list.w(1);
  while (list.num_w(0) < num_micro_batches) list.w(0);
}

}  // namespace

Schedule make_zb_v(int num_ranks, int chunks_per_rank, int num_micro_batches) {
  if (num_ranks == 1) return single_rank_schedule(chunks_per_rank, num_micro_batches);
  const int enough = std::max(num_micro_batches, 2 * num_ranks - 1);  // to fill the V once
  Schedule schedule = v_placement(num_ranks, enough);
  for (int r = 0; r < num_ranks; ++r)
    fill(RankList(schedule.of_rank[static_cast<size_t>(r)], r, 2 * num_ranks - 1 - r), r, num_ranks, enough);
  return with_first_micro_batches(schedule, num_micro_batches);
}

}  // namespace deepflow
