#include "optim/piece_state.h"

#include "kernels/ops/elementwise.h"

namespace deepflow {

PieceState::PieceState(Runtime& runtime, std::string name, const std::vector<ShardPiece>& pieces)
    : name_(std::move(name)) {
  for (const ShardPiece& piece : pieces) {
    values_.push_back(Tensor::empty(runtime.memory(), {piece.end - piece.begin}, DType::kF32));
    fill(runtime, values_.back(), 0);
  }
}

void PieceState::visit_state(const std::vector<ShardPiece>& pieces, const StateVisitor& visit) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Parameter& p = *pieces[i].parameter;
    StateEntry entry{name_ + "/" + p.spec.name, p.spec.shape, {pieces[i].box}, 0, values_[i], Reshard::kSlice};
    visit(entry);
  }
}

}  // namespace deepflow
