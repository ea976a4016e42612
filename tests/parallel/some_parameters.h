#pragma once

#include "core/parameter_registry.h"
#include "core/random.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace deepflow::testing {

inline ParameterSpec parameter(const std::string& name, const Shape& shape, Role role = Role::kMatrix) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = shape;
  spec.role = role;
  spec.init = shape.num_dims() < 2 ? Initialiser::constant(1) : Initialiser::normal(0.5f);
  return spec;
}

// Packs of one to three parameters of every kind, with extents that divide by nothing in particular.
inline void add_random_parameters(ParameterRegistry& registry, uint64_t seed, int packs) {
  const RandomSite site = random_site(seed, "parameters");
  int64_t draws = 0;
  const auto draw = [&](int64_t lo, int64_t hi) {
    return lo + static_cast<int64_t>(random_uniform(site, 0, draws++) * static_cast<float>(hi - lo));
  };
  for (int i = 0; i < packs; ++i) {
    const std::string name = fmt::format("p{}", i);
    const int64_t cols = draw(1, 100);
    std::vector<ParameterSpec> members;
    switch (draw(0, 5)) {
      case 0:
        members = {parameter(name, {draw(1, 300)}, Role::kNorm)};
        break;
      case 1:
        members = {parameter(name, {draw(1, 130), cols}, Role::kEmbedding)};
        break;
      case 2:
        members = {parameter(name, {draw(2, 6), draw(1, 20), cols}, Role::kExpert)};
        break;
      case 3:
        members = {parameter(name + ".q", {draw(1, 90), cols}), parameter(name + ".k", {draw(1, 40), cols}),
                   parameter(name + ".v", {draw(1, 40), cols})};
        break;
      default:
        members = {parameter(name + ".a", {draw(1, 150)}, Role::kBias),
                   parameter(name + ".b", {draw(1, 150)}, Role::kBias)};
    }
    registry.add(name, std::move(members));
  }
}

}  // namespace deepflow::testing
