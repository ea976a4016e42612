#include "parallel/schedules/dualpipev.h"

#include "parallel/schedules/placement.h"

#include <algorithm>
#include <deque>

namespace deepflow {
namespace {

// The list of one rank. Side 0 is its chunk on the way down, side 1 the one on the way up; each goes through the
// micro-batches in order. Weight gradients that were put off are made up for oldest first.
class RankList {
 public:
  RankList(std::vector<Action>& list, int down, int up) : list_(list), chunk_{down, up} {}

  void f(int side) { list_.push_back({Do::kF, chunk_[side], num_f_[side]++}); }
  void bw(int side) { list_.push_back({Do::kBW, chunk_[side], num_b_[side]++}); }
  void b(int side) {
    put_off_.push_back({Do::kW, chunk_[side], num_b_[side]});
    list_.push_back({Do::kB, chunk_[side], num_b_[side]++});
  }
  void w() {
    list_.push_back(put_off_.front());
    put_off_.pop_front();
  }
  bool owes_w() const { return !put_off_.empty(); }
  void f_with_bw(int side) {
    const int other = 1 - side;
    list_.push_back({Do::kOverlapFB, chunk_[side], num_f_[side]++, chunk_[other], num_b_[other]++});
  }

 private:
  std::vector<Action>& list_;
  std::deque<Action> put_off_;
  int chunk_[2];
  int num_f_[2] = {}, num_b_[2] = {};
};

void fill_pipeline(RankList& list, int below, int rank) {  // below: ranks further down the V
  for (int i = 0; i < 2 * below; ++i) list.f(0);
  for (int i = 0; i <= rank; ++i) {
    list.f(0);
    list.f(1);
  }
  for (int i = 0; i < below; ++i) {
    list.b(1);
    list.w();
    list.f(1);
  }
}

void steady_state(RankList& list, int below, int num_pairs) {
  for (int i = 0; i < num_pairs; ++i) {
    if (i == 0 && below == 0) {  // at the tip of the V the forward alone lets the rank above go on sooner
      list.f(0);
      list.bw(1);
    } else {
      list.f_with_bw(0);
    }
    list.f_with_bw(1);
  }
}

// Backward only. From the middle on, weight gradients are put off, so that gradients reach the ranks above sooner.
void drain_pipeline(RankList& list, int below, int rank) {
  for (int i = 0; i < below; ++i) {
    list.bw(1);
    list.f_with_bw(1);
  }
  for (int i = 0; i < 2 * (rank + 1); ++i) {
    const int side = 1 - i % 2;
    if (i <= rank)
      list.bw(side);
    else
      list.b(side);
  }
  for (int i = 0; i < below; ++i) {
    list.w();
    list.b(0);
  }
  while (list.owes_w()) list.w();
}

}  // namespace

Schedule make_dualpipev(int num_ranks, int chunks_per_rank, int num_micro_batches) {
  if (num_ranks == 1) return single_rank_schedule(chunks_per_rank, num_micro_batches);
  const int enough = std::max(num_micro_batches, 2 * num_ranks);
  Schedule schedule = v_placement(num_ranks, enough);
  for (int r = 0; r < num_ranks; ++r) {
    RankList list(schedule.of_rank[static_cast<size_t>(r)], r, 2 * num_ranks - 1 - r);
    const int below = num_ranks - 1 - r;
    fill_pipeline(list, below, r);
    steady_state(list, below, enough - 2 * num_ranks + r + 1);
    drain_pipeline(list, below, r);
  }
  return with_first_micro_batches(schedule, num_micro_batches);
}

}  // namespace deepflow
