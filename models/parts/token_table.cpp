#include "models/parts/token_table.h"

namespace deepflow {
namespace {

ParameterSpec table_spec(const std::string& name, int64_t rows, int64_t width, Role role, float stddev) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = {rows, width};
  spec.role = role;
  spec.init = Initialiser::normal(stddev);
  return spec;
}

}  // namespace

Pack* declare_embedding(ParameterRegistry& registry, const std::string& name, int64_t rows, int64_t width,
                        float stddev) {
  return registry.add(table_spec(name + ".weight", rows, width, Role::kEmbedding, stddev));
}

Pack* declare_head(ParameterRegistry& registry, int64_t vocabulary, int64_t width, float stddev, Pack* tied_to) {
  if (!tied_to) return registry.add(table_spec("head.weight", vocabulary, width, Role::kHead, stddev));
  registry.use_again(tied_to);
  return tied_to;
}

}  // namespace deepflow
