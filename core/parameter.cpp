#include "core/parameter.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {

const char* name_of(Role role) {
  static constexpr const char* kNames[] = {"matrix", "expert", "embedding", "head", "norm", "bias", "router", "buffer"};
  return kNames[static_cast<int>(role)];
}

int64_t Box::num_elements() const {
  int64_t n = 1;
  for (size_t d = 0; d < lo.size(); ++d) n *= hi[d] - lo[d];
  return n;
}

namespace {

struct Range {
  int64_t first, count;
};

// The part of the split dim that the place `index` of `ranks` holds, in units.
Range units_of(const ParameterSpec& spec, const Split& split, int64_t index, int64_t ranks) {
  const int64_t extent = spec.shape[split.dim];
  if (!split.even) {
    if (split.units < ranks || extent % split.units != 0)
      throw ConfigError("{}: {} rows cannot be dealt over {} ranks", spec.name, split.units, ranks);
    const int64_t first = split.units * index / ranks;
    return {first, split.units * (index + 1) / ranks - first};
  }
  const int64_t small = std::min(split.units, ranks), large = std::max(split.units, ranks);
  if (large % small != 0 || extent % split.units != 0)
    throw ConfigError("{}: {} units of dim {} (extent {}) cannot be dealt over {} ranks", spec.name, split.units,
                      split.dim, extent, ranks);
  const int64_t first = split.units >= ranks ? index * (split.units / ranks) : index / (ranks / split.units);
  return {first, std::max<int64_t>(1, split.units / ranks)};
}

}  // namespace

std::vector<Box> local_boxes(const ParameterSpec& spec, const MeshCoord& coord) {
  Box box;
  for (const int64_t extent : spec.shape) {
    box.lo.push_back(0);
    box.hi.push_back(extent);
  }
  for (const Split& split : spec.placement) {
    int64_t index = 0, ranks = 1;
    for (const std::string& name : split.axes) {
      const auto axis = std::find_if(coord.begin(), coord.end(), [&](const MeshAxis& a) { return a.name == name; });
      if (axis == coord.end()) continue;
      index = index * axis->size + axis->index;
      ranks *= axis->size;
    }
    const Range mine = units_of(spec, split, index, ranks);
    const int64_t unit = spec.shape[split.dim] / split.units;
    const size_t d = static_cast<size_t>(split.dim);
    box.lo[d] = mine.first * unit;
    box.hi[d] = (mine.first + mine.count) * unit;
  }
  return {box};
}

bool is_same_part(const ParameterSpec& spec, const MeshCoord& a, const MeshCoord& b) {
  return local_boxes(spec, a) == local_boxes(spec, b);
}

}  // namespace deepflow
