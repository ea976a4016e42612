#pragma once

#include "core/state.h"
#include "optim/optimizer.h"

#include <string>
#include <vector>

namespace deepflow {

// One f32 value per element of a domain's pieces, zero at first: a moment, a momentum. Reported as "NAME/PARAMETER".
// In memory, or where the domain says so in a file of its own that is mapped (core/mapped_file.h): StorageError when
// it does not fit there.
class PieceState {
 public:
  PieceState(const OptimizerDomain& domain, std::string name);
  Tensor& of(size_t piece) { return values_[piece]; }
  void visit_state(const std::vector<ShardPiece>& pieces, const StateVisitor& visit);

  bool is_offloaded() const { return offloaded_; }
  void page_out(size_t piece);  // done with it for now; in memory, nothing happens

 private:
  std::string name_;
  std::vector<Tensor> values_;
  bool offloaded_;
};

}  // namespace deepflow
