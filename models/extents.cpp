#include "models/extents.h"

#include "kernels/ops/router.h"

#include <algorithm>

namespace deepflow {

std::optional<ModelConfig::Problem> missing_extent(const std::vector<std::pair<std::string, int64_t>>& extents) {
  for (const auto& [key, value] : extents)
    if (value <= 0) return ModelConfig::Problem{key, "is missing: give it, or init_from"};
  return std::nullopt;
}

std::optional<ModelConfig::Problem> too_many_layers(int64_t layers) {
  if (layers <= kMostLayers) return std::nullopt;
  return ModelConfig::Problem{"layers", fmt::format("{} are more than {}", layers, kMostLayers)};
}

std::optional<ModelConfig::Problem> does_not_divide(const std::string& key, int64_t small, int64_t large,
                                                    const std::string& what) {
  if (small > 0 && large % small == 0) return std::nullopt;
  return ModelConfig::Problem{key, fmt::format("{} does not divide {} {}", small, large, what)};
}

std::optional<ModelConfig::Problem> expert_problem(int64_t experts, int64_t choices) {
  using Problem = ModelConfig::Problem;
  if (experts < 1 || experts > kMostExperts)
    return Problem{"experts", fmt::format("{} are not between 1 and {}", experts, kMostExperts)};
  const int64_t most = std::min(experts, kMostExpertChoices);
  if (choices < 1 || choices > most)
    return Problem{"expert_choices",
                   fmt::format("{} are not between 1 and {} (model.experts: {})", choices, most, experts)};
  return std::nullopt;
}

}  // namespace deepflow
