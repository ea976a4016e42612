#pragma once

#include "core/parameter.h"

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// Every parameter of a model in the order in which its modules declared them (the order of the forward pass), and the
// packs that they lie in. Modules keep the Pack pointers; a parallel strategy may rewrite specs until `freeze`.
class ParameterRegistry {
 public:
  // A pack of one. The name must be new.
  Pack* add(ParameterSpec spec);
  // Several matrices with the same number of columns, or several vectors, that one GEMM reads; or experts with the same
  // extents.
  Pack* add(const std::string& pack_name, std::vector<ParameterSpec> specs);
  // One more reading of a pack that exists (a tied head).
  void use_again(Pack* pack);

  // Computes local boxes, shapes and offsets for this rank's place on the mesh. `chunks`: the model chunks of this
  // rank; packs that none of them reads are not local. Once.
  void freeze(const MeshCoord& coord, std::span<const int> chunks = kOnlyChunk);

  const std::deque<Pack>& packs() const { return packs_; }
  std::deque<Pack>& packs() { return packs_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::deque<Parameter>& parameters() { return parameters_; }
  Parameter* find(const std::string& name);
  int64_t num_elements() const;  // logical, of the whole model

 private:
  static constexpr int kOnlyChunk[] = {0};

  std::deque<Parameter> parameters_;  // stable addresses
  std::deque<Pack> packs_;
  bool frozen_ = false;
};

}  // namespace deepflow
