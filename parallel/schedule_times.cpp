#include "parallel/schedule_times.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

struct Span {
  double begin = INFINITY, end = -INFINITY, busy = 0;
};

Span compute_span(const std::vector<TimedAction>& list) {
  Span span;
  for (const TimedAction& a : list) {
    if (!is_compute(a.action.what)) continue;
    span.begin = std::min(span.begin, a.begin);
    span.end = std::max(span.end, a.end);
    span.busy += a.end - a.begin;
  }
  return span;
}

}  // namespace

double ScheduleTimes::begin() const {
  double begin = INFINITY;
  for (const auto& list : of_rank) begin = std::min(begin, compute_span(list).begin);
  return std::isfinite(begin) ? begin : 0;
}

double ScheduleTimes::end() const {
  double end = -INFINITY;
  for (const auto& list : of_rank) end = std::max(end, compute_span(list).end);
  return std::isfinite(end) ? end : 0;
}

double ScheduleTimes::busy(int rank) const { return compute_span(of_rank[static_cast<size_t>(rank)]).busy; }

double ScheduleTimes::idle_inside(int rank) const {
  const Span span = compute_span(of_rank[static_cast<size_t>(rank)]);
  return span.end > span.begin ? span.end - span.begin - span.busy : 0;
}

double ScheduleTimes::bubble(int rank) const {
  const double all = duration();
  return all > 0 ? 1 - busy(rank) / all : 0;
}

double ScheduleTimes::bubble() const {
  double sum = 0;
  for (int rank = 0; rank < num_ranks(); ++rank) sum += bubble(rank);
  return num_ranks() > 0 ? sum / num_ranks() : 0;
}

}  // namespace deepflow
