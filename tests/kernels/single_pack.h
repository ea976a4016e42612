#pragma once

#include "core/parameter.h"

#include <string>

namespace deepflow::testing {

// A pack of one parameter, [rows, cols], a vector or experts; embeddings and heads have physical rows padded to 64.
inline void make_single_pack(Parameter& parameter, Pack& pack, const std::string& name, const Shape& shape, Role role) {
  parameter.spec.name = name;
  parameter.spec.shape = parameter.local_shape = shape;
  parameter.spec.role = role;
  parameter.pack = &pack;
  pack.name = name;
  pack.members = {&parameter};
  pack.rows = pack.physical_rows = shape.rows();
  if (role == Role::kEmbedding || role == Role::kHead) pack.physical_rows = (pack.rows + 63) / 64 * 64;
  pack.cols = shape.cols();
  if (shape.num_dims() == 3) pack.groups = shape[0];
}

// One more like the first, below the others.
inline void add_member(Parameter& parameter, Pack& pack) {
  parameter = *pack.members.front();
  parameter.spec.name += std::to_string(pack.members.size());
  parameter.pack_offset = pack.num_elements();
  pack.members.push_back(&parameter);
  pack.rows += parameter.local_shape.rows();
  pack.physical_rows = pack.rows;
}

}  // namespace deepflow::testing
