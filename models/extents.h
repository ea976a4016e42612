#pragma once

#include "models/config.h"

#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// The first of the named extents that is not given, as a Problem.
std::optional<ModelConfig::Problem> missing_extent(const std::vector<std::pair<std::string, int64_t>>& extents);

// Extents beyond this are no model's; their products stay far from overflow.
constexpr int64_t kLargestExtent = int64_t{1} << 24;

// Every block is an object: a hostile file must not ask for billions.
constexpr int64_t kMostLayers = 10000;
std::optional<ModelConfig::Problem> too_many_layers(int64_t layers);

// "KEY SMALL does not divide LARGE WHAT" as a Problem, or none.
std::optional<ModelConfig::Problem> does_not_divide(const std::string& key, int64_t small, int64_t large,
                                                    const std::string& what);

// Experts of a layer, and those that a token goes to.
constexpr int64_t kMostExperts = 65536;
std::optional<ModelConfig::Problem> expert_problem(int64_t experts, int64_t choices);

// The first of the given ones that is a problem.
template <class... P>
std::optional<ModelConfig::Problem> first_problem(const P&... problems) {
  std::optional<ModelConfig::Problem> first;
  ((first = first ? first : problems), ...);
  return first;
}

}  // namespace deepflow
