#include "optim/piece_state.h"

#include "core/error.h"
#include "core/mapped_file.h"
#include "kernels/ops/elementwise.h"

namespace deepflow {
namespace {

constexpr int64_t kAlignment = 64;  // bytes

std::shared_ptr<MappedFile> create_file(const std::string& folder, int64_t bytes) {
  try {
    return MappedFile::create(folder, bytes);
  } catch (const StorageError& error) {
    throw StorageError("train.offload_optimizer: {}", error.what());
  }
}

}  // namespace

PieceState::PieceState(const OptimizerDomain& domain, std::string name)
    : name_(std::move(name)), offloaded_(!domain.offload_dir.empty()) {
  if (!offloaded_) {
    for (const ShardPiece& piece : domain.pieces) {
      values_.push_back(Tensor::empty(domain.runtime.memory(), {piece.end - piece.begin}, DType::kF32));
      fill(domain.runtime, values_.back(), 0);
    }
    return;
  }
  std::vector<int64_t> offsets = {0};
  for (const ShardPiece& piece : domain.pieces) {
    const int64_t bytes = (piece.end - piece.begin) * static_cast<int64_t>(sizeof(float));
    offsets.push_back(offsets.back() + (bytes + kAlignment - 1) / kAlignment * kAlignment);
  }
  const auto file = create_file(domain.offload_dir, offsets.back());
  for (size_t i = 0; i < domain.pieces.size(); ++i)
    values_.push_back(
        MappedFile::tensor(file, offsets[i], {domain.pieces[i].end - domain.pieces[i].begin}, DType::kF32));
}

void PieceState::page_out(size_t piece) {
  if (offloaded_) MappedFile::page_out(values_[piece]);
}

void PieceState::visit_state(const std::vector<ShardPiece>& pieces, const StateVisitor& visit) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Parameter& p = *pieces[i].parameter;
    StateEntry entry{name_ + "/" + p.spec.name, p.spec.shape, {pieces[i].box}, 0, values_[i], Reshard::kSlice};
    visit(entry);
    page_out(i);
  }
}

}  // namespace deepflow
