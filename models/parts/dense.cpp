#include "models/parts/dense.h"

#include "kernels/ops/linear.h"
#include "parallel/ops/tensor_linear.h"

namespace deepflow {

Dense::Dense(ParameterRegistry& registry, const std::string& pack, const std::vector<Output>& outputs,
             const Options& options) {
  std::vector<ParameterSpec> weights, biases;
  for (const Output& output : outputs) {
    ParameterSpec weight;
    weight.name = output.name + ".weight";
    weight.shape = {output.width, options.in};
    weight.role = Role::kMatrix;
    weight.init = Initialiser::normal(options.stddev);
    weights.push_back(std::move(weight));

    ParameterSpec bias;
    bias.name = output.name + ".bias";
    bias.shape = {output.width};
    bias.role = Role::kBias;
    bias.init = Initialiser::constant(0);
    biases.push_back(std::move(bias));
  }
  weight_ = registry.add(pack + ".weight", std::move(weights));
  if (options.bias) bias_ = registry.add(pack + ".bias", std::move(biases));
}

Var Dense::operator()(ForwardContext& context, const Var& x) const {
  switch (split_) {
    case Split::kOutputs:
      return column_parallel_linear(context, x, *weight_, bias_, *tp_);
    case Split::kInputs:
      return row_parallel_linear(context, x, *weight_, bias_, *tp_);
    case Split::kNone:
      break;
  }
  return linear(context, x, *weight_, bias_);
}

void Dense::split_outputs(const TensorParallel& tp, const std::vector<int64_t>& units) {
  tp_ = &tp;
  split_ = Split::kOutputs;
  deal_outputs(units);
}

void Dense::deal_outputs(const std::vector<int64_t>& units) {
  for (const Pack* pack : {weight_, bias_})
    for (size_t i = 0; pack && i < units.size(); ++i)
      pack->members[i]->spec.placement = {{.dim = 0, .axes = {"tp"}, .units = units[i]}};
}

void Dense::follow_rows() {
  for (const Pack* pack : {weight_, bias_})
    for (size_t i = 0; pack && i < pack->members.size(); ++i) pack->members[i]->spec.partial = {"tp"};
}

void Dense::split_inputs(const TensorParallel& tp, int64_t units) {
  tp_ = &tp;
  split_ = Split::kInputs;
  for (Parameter* p : weight_->members) p->spec.placement = {{.dim = 1, .axes = {"tp"}, .units = units}};
  // The bias is added to the sum, of which each rank holds some rows.
  if (bias_ && tp.sequence)
    for (Parameter* p : bias_->members) p->spec.partial = {"tp"};
}

}  // namespace deepflow
