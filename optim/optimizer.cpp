#include "optim/optimizer.h"

#include "core/error.h"
#include "optim/adafactor.h"
#include "optim/adamw.h"
#include "optim/adamw_8bit.h"
#include "optim/lion.h"
#include "optim/muon.h"
#include "optim/sgd.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr OptimizerEntry kOptimizers[] = {
    {"adamw", UpdateUnit::kRow, make_adamw, adamw_state_bytes, nullptr},
    {"adamw8bit", UpdateUnit::kRow, make_adamw_8bit, adamw_8bit_state_bytes, nullptr},
    {"lion", UpdateUnit::kRow, make_lion, lion_state_bytes, nullptr},
    {"adafactor", UpdateUnit::kRow, make_adafactor, adafactor_state_bytes, nullptr},
    {"muon", UpdateUnit::kMatrix, make_muon, muon_state_bytes, muon_update_bytes},
    {"sgd", UpdateUnit::kRow, make_sgd, sgd_state_bytes, nullptr},
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

std::vector<ShardPiece> optimized_pieces(std::vector<ShardPiece> pieces) {
  pieces.erase(std::remove_if(pieces.begin(), pieces.end(),
                              [](const ShardPiece& piece) { return piece.parameter->spec.role == Role::kBuffer; }),
               pieces.end());
  return pieces;
}

bool decays(Role role) { return role != Role::kNorm && role != Role::kBias && role != Role::kBuffer; }

}  // namespace deepflow
