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

QueryKeyNorm::QueryKeyNorm(ParameterRegistry& registry, const std::string& name, int64_t head_dim, float eps)
    : gains_(registry.add(name + ".qk_norm.weight",
                          std::vector{vector_spec(name + ".q_norm.weight", head_dim, Role::kNorm, 1),
                                      vector_spec(name + ".k_norm.weight", head_dim, Role::kNorm, 1)})),
      head_dim_(head_dim),
      eps_(eps) {}

Var QueryKeyNorm::operator()(ForwardContext& context, const Var& qkv, int64_t heads, int64_t kv_heads) const {
  return group_rms_norm(context, qkv, *gains_, {{heads, kv_heads}, head_dim_}, eps_);
}

void QueryKeyNorm::split_heads() {
  for (Parameter* gain : gains_->members) gain->spec.partial = {"tp"};
}

}  // namespace deepflow
