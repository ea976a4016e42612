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

float gain_offset(Norm::Kind kind) { return kind == Norm::Kind::kRmsPlusOne ? 1.0f : 0.0f; }

Pack* add_gain(ParameterRegistry& registry, const std::string& name, Norm::Kind kind, int64_t width) {
  return registry.add(vector_spec(name + ".weight", width, Role::kNorm, 1 - gain_offset(kind)));
}

}  // namespace

Norm::Norm(ParameterRegistry& registry, const std::string& name, Kind kind, int64_t width, float eps)
    : gain_(add_gain(registry, name, kind, width)), eps_(eps), gain_offset_(gain_offset(kind)) {
  if (kind == Kind::kLayer) bias_ = registry.add(vector_spec(name + ".bias", width, Role::kBias, 0));
}

NormResult Norm::operator()(ForwardContext& context, const Residual& stream) const {
  if (bias_) return layer_norm(context, stream.x, stream.delta, *gain_, bias_, eps_);
  return rms_norm(context, stream.x, stream.delta, *gain_, eps_, gain_offset_);
}

void Norm::follow_rows(const TensorParallel& tp) {
  if (!tp.sequence) return;
  for (Pack* pack : {gain_, bias_})
    if (pack) pack->members.front()->spec.partial = {"tp"};
}

OutputNorm::OutputNorm(ParameterRegistry& registry, const std::string& name, Norm::Kind kind, int64_t width, float eps)
    : gain_(add_gain(registry, name, kind, width)), eps_(eps), gain_offset_(gain_offset(kind)) {}

Var OutputNorm::operator()(ForwardContext& context, const Var& output) const {
  return group_rms_norm(context, output, *gain_, {{1}, gain_->cols}, eps_, gain_offset_);
}

void OutputNorm::follow_rows(const TensorParallel& tp) {
  if (tp.sequence) gain_->members.front()->spec.partial = {"tp"};
}

void OutputNorm::split_readers() { gain_->members.front()->spec.partial = {"tp"}; }

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
