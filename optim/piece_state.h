#pragma once

#include "core/state.h"
#include "optim/optimizer.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace deepflow {

// What a state keeps for a piece: a box of one logical tensor for each parameter.
struct StatePart {
  Shape shape;  // of the logical tensor
  Box box;
  DType dtype = DType::kF32;
};
using StatePartOf = std::function<std::optional<StatePart>(const ShardPiece&)>;  // nothing: the piece has none
std::optional<StatePart> value_per_element(const ShardPiece& piece);             // f32: a moment, a momentum
int64_t part_bytes(const std::optional<StatePart>& part);

// Values that an optimizer keeps for a domain's pieces, zero at first. Reported as "NAME/PARAMETER".
// In memory, or where the domain says so in a file of its own that is mapped (core/mapped_file.h): StorageError when
// it does not fit there.
class PieceState {
 public:
  PieceState(const OptimizerDomain& domain, std::string name, const StatePartOf& part_of = value_per_element);
  Tensor& of(size_t piece) { return values_[piece]; }  // flat; undefined where the piece has none
  void visit_state(const std::vector<ShardPiece>& pieces, const StateVisitor& visit);

  bool is_offloaded() const { return offloaded_; }
  void page_out(size_t piece);  // done with it for now; in memory, nothing happens

 private:
  void map_file(const OptimizerDomain& domain);

  std::string name_;
  std::vector<std::optional<StatePart>> parts_;
  std::vector<Tensor> values_;
  bool offloaded_;
};

}  // namespace deepflow
