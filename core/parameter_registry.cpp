#include "core/parameter_registry.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {
namespace {

constexpr int64_t kRowPadding = 64;

void lay_out(Pack& pack) {
  pack.rows = 0;
  int64_t offset = 0;
  const bool matrix = pack.members.front()->local_shape.num_dims() > 1;
  pack.cols = matrix ? pack.members.front()->local_shape.cols() : 0;
  for (Parameter* p : pack.members) {
    p->pack_offset = offset;
    offset += p->local_shape.num_elements();
    if (matrix)
      pack.rows += p->local_shape.rows();
    else
      pack.cols += p->local_shape.num_elements();
  }
  if (!matrix) pack.rows = 1;
  const Shape& first = pack.members.front()->local_shape;
  if (first.num_dims() == 3) {
    for (const Parameter* p : pack.members)
      DF_ASSERT(p->local_shape == first, "{}: {} beside {}", pack.name, p->local_shape.to_string(), first.to_string());
    pack.groups = first[0];
  }
  const Role role = pack.role();
  const bool padded = role == Role::kEmbedding || role == Role::kHead;
  pack.physical_rows = padded ? (pack.rows + kRowPadding - 1) / kRowPadding * kRowPadding : pack.rows;
}

}  // namespace

Pack* ParameterRegistry::add(ParameterSpec spec) {
  const std::string name = spec.name;
  return add(name, {std::move(spec)});
}

Pack* ParameterRegistry::add(const std::string& pack_name, std::vector<ParameterSpec> specs) {
  DF_ASSERT(!frozen_ && !specs.empty());
  Pack& pack = packs_.emplace_back();
  pack.id = static_cast<int>(packs_.size()) - 1;
  pack.name = pack_name;
  pack.uses_per_pass = 1;
  for (ParameterSpec& spec : specs) {
    DF_ASSERT(!find(spec.name), "parameter {} exists", spec.name);
    DF_ASSERT(spec.shape.num_dims() == specs.front().shape.num_dims(), "{}", pack_name);
    Parameter& p = parameters_.emplace_back();
    p.spec = std::move(spec);
    p.pack = &pack;
    pack.members.push_back(&p);
  }
  return &pack;
}

void ParameterRegistry::use_again(Pack* pack) {
  for (Parameter* p : pack->members) p->spec.chunks.push_back(p->spec.chunks.back());
  ++pack->uses_per_pass;
}

void ParameterRegistry::freeze(const MeshCoord& coord, std::span<const int> chunks) {
  DF_ASSERT(!frozen_);
  frozen_ = true;
  for (Parameter& p : parameters_) {
    p.boxes = local_boxes(p.spec, coord);
    p.local_shape = p.spec.shape;
    for (int d = 0; d < p.local_shape.num_dims(); ++d)
      p.local_shape[d] = p.boxes[0].hi[static_cast<size_t>(d)] - p.boxes[0].lo[static_cast<size_t>(d)];
  }
  for (Pack& pack : packs_) {
    lay_out(pack);
    const std::vector<int>& readers = pack.members.front()->spec.chunks;
    pack.uses_per_pass = static_cast<int>(std::count_if(readers.begin(), readers.end(), [&](int chunk) {
      return std::find(chunks.begin(), chunks.end(), chunk) != chunks.end();
    }));
    pack.local = pack.uses_per_pass > 0;
  }
}

Parameter* ParameterRegistry::find(const std::string& name) {
  for (Parameter& p : parameters_)
    if (p.spec.name == name) return &p;
  return nullptr;
}

int64_t ParameterRegistry::num_elements() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.spec.shape.num_elements();
  return n;
}

}  // namespace deepflow
