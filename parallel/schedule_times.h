#pragma once

#include "parallel/schedule.h"

namespace deepflow {

struct TimedAction {
  Action action;
  double begin = 0, end = 0;  // any unit. A receive ends when its message is there; other non-compute actions take none
};

// When every action of a step ran, as simulated or as measured. Only compute actions count as busy.
struct ScheduleTimes {
  std::vector<std::vector<TimedAction>> of_rank;  // in the order of the list

  int num_ranks() const { return static_cast<int>(of_rank.size()); }
  double begin() const;  // of the first compute action of any rank
  double end() const;    // of the last
  double duration() const { return end() - begin(); }
  double busy(int rank) const;
  double idle_inside(int rank) const;  // between its own first and last compute action
  // The part of the step in which a rank does not compute, waiting at the beginning and the end included.
  double bubble(int rank) const;
  double bubble() const;  // mean over the ranks
};

}  // namespace deepflow
