#pragma once

#include "tests/engine/tiny_run.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow::testing {

inline constexpr double kCurveLimit = 2e-5;  // of the relative difference between two layouts in f32
inline constexpr double kTie = 1e-5;         // difference of two scores of a router, which are at most about 1

// Losses and norms of steps, in turns, and what the routers chose: for every step the loads of all experts of all
// layers.
struct Course {
  std::vector<double> curve;
  std::vector<std::vector<int64_t>> loads;
  std::vector<double> closest;  // how narrowly experts were chosen, for every step
  void append(const Course& later);
};
Course take_course(TinyRun& run, int steps);
Course course_of_one_rank(TinyOptions options, int steps);

// The largest relative difference; NaN when there is one.
double worst(const std::vector<double>& a, const std::vector<double>& b);

// Choices that fell on other experts. From the first one that moved, others follow: weights are no longer the same.
struct Moves {
  int64_t all = 0, choices = 0;
  size_t first = 0;  // step in which there are any; without any, all steps
};
Moves moves(const Course& a, const Course& b);

// How a course differs from the expected one.
struct Apart {
  double max_rel = 0;
  Moves moved;
  double gap = 0, max_rel_before = 0;  // where choices moved: how narrow the first was, and the difference before it
  // Routers choose from scores that differ in their last bits. A choice that was nearly a tie may fall otherwise; from
  // then on it is another training.
  bool is_small() const;
  std::string text() const;
};
Apart compare(const Course& got, const Course& expected);

}  // namespace deepflow::testing
