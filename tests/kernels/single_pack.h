#pragma once

#include "core/parameter.h"

#include <string>

namespace deepflow::testing {

// A pack of one parameter, [rows, cols] or a vector; embeddings and heads have physical rows padded to 64.
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
}

}  // namespace deepflow::testing
