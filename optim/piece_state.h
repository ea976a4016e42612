#pragma once

#include "core/runtime.h"
#include "core/state.h"
#include "parallel/resident_store.h"
#include "parallel/shard_map.h"

#include <string>
#include <vector>

namespace deepflow {

// One f32 value per element of a rank's pieces, zero at first: a moment, a momentum. Reported as "NAME/PARAMETER".
class PieceState {
 public:
  PieceState(Runtime& runtime, std::string name, const std::vector<ShardPiece>& pieces);
  Tensor& of(size_t piece) { return values_[piece]; }
  void visit_state(const std::vector<ShardPiece>& pieces, const StateVisitor& visit);

 private:
  std::string name_;
  std::vector<Tensor> values_;
};

}  // namespace deepflow
