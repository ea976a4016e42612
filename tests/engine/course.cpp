#include "tests/engine/course.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace deepflow::testing {
namespace {

template <class T>
void add(std::vector<T>& to, const std::vector<T>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

}  // namespace

void Course::append(const Course& later) {
  add(curve, later.curve);
  add(loads, later.loads);
  add(closest, later.closest);
}

Course take_course(TinyRun& run, int steps) {
  Course course;
  for (const StepReport& report : run.train(steps)) {
    course.curve.insert(course.curve.end(), {report.loss, report.gradient_norm});
    course.loads.emplace_back();
    course.closest.push_back(std::numeric_limits<double>::infinity());
    for (const ExpertLoad& load : report.experts) {
      add(course.loads.back(), load.tokens);
      course.closest.back() = std::min(course.closest.back(), load.closest);
    }
  }
  return course;
}

Course course_of_one_rank(TinyOptions options, int steps) {
  options.parallel = {};
  TinyRun run(options);
  return take_course(run, steps);
}

double worst(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return NAN;
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = a[i] == b[i] ? 0 : std::abs(a[i] - b[i]) / std::abs(b[i]);
    if (std::isnan(d)) return d;
    most = std::max(most, d);
  }
  return most;
}

Moves moves(const Course& a, const Course& b) {
  Moves m;
  m.first = a.loads.size();
  for (size_t step = 0; step < a.loads.size(); ++step) {
    int64_t apart = 0;
    for (size_t e = 0; e < a.loads[step].size(); ++e) {
      apart += std::abs(a.loads[step][e] - b.loads[step][e]);
      m.choices += b.loads[step][e];
    }
    m.all += apart / 2;
    if (apart > 0) m.first = std::min(m.first, step);
  }
  return m;
}

bool Apart::is_small() const {
  // a <= b: false for a NaN
  return moved.all > 0 ? gap <= kTie && max_rel_before <= kCurveLimit : max_rel <= kCurveLimit;
}

std::string Apart::text() const {
  if (moved.all == 0) return fmt::format("max_rel {:.3g}", max_rel);
  return fmt::format("{} of {} choices moved, first in step {} with a gap of {:.3g}; max_rel before {:.3g}", moved.all,
                     moved.choices, moved.first + 1, gap, max_rel_before);
}

Apart compare(const Course& got, const Course& expected) {
  Apart a;
  a.max_rel = worst(got.curve, expected.curve);
  if (got.loads.size() != expected.loads.size()) return a;
  a.moved = moves(got, expected);
  if (a.moved.all == 0) return a;
  const auto before = static_cast<std::ptrdiff_t>(2 * a.moved.first);
  a.gap = expected.closest[a.moved.first];
  a.max_rel_before =
      worst({got.curve.begin(), got.curve.begin() + before}, {expected.curve.begin(), expected.curve.begin() + before});
  return a;
}

}  // namespace deepflow::testing
