#include "models/parts/norm.h"

namespace deepflow {
namespace {

ParameterSpec vector_spec(const std::string& name, int64_t width, Role role, float value) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = {width};
  spec.role = role;
  spec.init = Initialiser::constant(value);
  return spec;
}

}  // namespace

Norm::Norm(ParameterRegistry& registry, const std::string& name, Kind kind, int64_t width, float eps) : eps_(eps) {
  gain_ = registry.add(vector_spec(name + ".weight", width, Role::kNorm, 1));
  if (kind == Kind::kLayer) bias_ = registry.add(vector_spec(name + ".bias", width, Role::kBias, 0));
}

NormResult Norm::operator()(ForwardContext& context, const Residual& stream) const {
  if (bias_) return layer_norm(context, stream.x, stream.delta, *gain_, bias_, eps_);
  return rms_norm(context, stream.x, stream.delta, *gain_, eps_);
}

void Norm::follow_rows(const TensorParallel& tp) {
  if (!tp.sequence) return;
  for (Pack* pack : {gain_, bias_})
    if (pack) pack->members.front()->spec.partial = {"tp"};
}

}  // namespace deepflow
