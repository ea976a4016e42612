#include "optim/optimizer.h"

#include "core/error.h"
#include "optim/adamw.h"
#include "optim/sgd.h"

namespace deepflow {
namespace {

constexpr OptimizerEntry kOptimizers[] = {
    {"adamw", UpdateUnit::kRow, make_adamw},
    {"sgd", UpdateUnit::kRow, make_sgd},
};

}  // namespace

const OptimizerEntry& find_optimizer(const std::string& name) {
  for (const OptimizerEntry& entry : kOptimizers)
    if (name == entry.name) return entry;
  throw ConfigError("optim.name: {} is not an optimizer", name);
}

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const OptimizerEntry& entry : kOptimizers) names.emplace_back(entry.name);
  return names;
}

bool decays(Role role) { return role != Role::kNorm && role != Role::kBias && role != Role::kBuffer; }

}  // namespace deepflow
