#include "optim/piece_state.h"

#include "core/error.h"
#include "core/mapped_file.h"

#include <cstring>

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

std::optional<StatePart> value_per_element(const ShardPiece& piece) {
  return StatePart{piece.parameter->spec.shape, piece.box, DType::kF32};
}

int64_t part_bytes(const std::optional<StatePart>& part) {
  return part ? part->box.num_elements() * static_cast<int64_t>(size_of(part->dtype)) : 0;
}

PieceState::PieceState(const OptimizerDomain& domain, std::string name, const StatePartOf& part_of)
    : name_(std::move(name)), values_(domain.pieces.size()), offloaded_(!domain.offload_dir.empty()) {
  for (const ShardPiece& piece : domain.pieces) parts_.push_back(part_of(piece));
  if (offloaded_) {
    map_file(domain);
    return;
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!parts_[i]) continue;
    values_[i] = Tensor::empty(domain.runtime.memory(), {parts_[i]->box.num_elements()}, parts_[i]->dtype);
    std::memset(values_[i].raw(), 0, values_[i].num_bytes());
  }
}

void PieceState::map_file(const OptimizerDomain& domain) {
  std::vector<int64_t> offsets = {0};
  for (const auto& part : parts_) {
    offsets.push_back(offsets.back() + (part_bytes(part) + kAlignment - 1) / kAlignment * kAlignment);
  }
  if (offsets.back() == 0) return;
  const auto file = create_file(domain.offload_dir, offsets.back());
  for (size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i]) values_[i] = MappedFile::tensor(file, offsets[i], {parts_[i]->box.num_elements()}, parts_[i]->dtype);
}

void PieceState::page_out(size_t piece) {
  if (offloaded_ && values_[piece].defined()) MappedFile::page_out(values_[piece]);
}

void PieceState::visit_state(const std::vector<ShardPiece>& pieces, const StateVisitor& visit) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (!parts_[i]) continue;
    const std::string& parameter = pieces[i].parameter->spec.name;
    StateEntry entry{name_ + "/" + parameter, parts_[i]->shape, {parts_[i]->box}, 0, values_[i], Reshard::kSlice};
    visit(entry);
    page_out(i);
  }
}

}  // namespace deepflow
