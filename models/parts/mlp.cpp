#include "models/parts/mlp.h"

namespace deepflow {

GeluMlp::GeluMlp(ParameterRegistry& registry, const std::string& name, const MlpOptions& o, GeluKind kind)
    : ffn_(o.ffn),
      kind_(kind),
      up_(registry, name + ".up", o.ffn, {o.width, o.bias, o.stddev}),
      down_(registry, name + ".down", o.width, {o.ffn, o.bias, o.out_stddev}) {}

Var GeluMlp::operator()(ForwardContext& context, const Var& x) const {
  return down_(context, gelu(context, up_(context, x), kind_));
}

void GeluMlp::split_features(const TensorParallel& tp) {
  up_.split_outputs(tp, {ffn_});
  down_.split_inputs(tp, ffn_);
}

GatedMlp::GatedMlp(ParameterRegistry& registry, const std::string& name, const MlpOptions& o, Activation activation)
    : ffn_(o.ffn),
      activation_(activation),
      gate_up_(registry, name + ".gate_up", {{name + ".gate", o.ffn}, {name + ".up", o.ffn}},
               {o.width, o.bias, o.stddev}),
      down_(registry, name + ".down", o.width, {o.ffn, o.bias, o.out_stddev}) {}

Var GatedMlp::operator()(ForwardContext& context, const Var& x) const {
  return down_(context, activation_(context, gate_up_(context, x)));
}

void GatedMlp::split_features(const TensorParallel& tp) {
  gate_up_.split_outputs(tp, {ffn_, ffn_});
  down_.split_inputs(tp, ffn_);
}

}  // namespace deepflow
