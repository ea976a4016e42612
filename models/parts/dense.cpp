#include "models/parts/dense.h"

#include "kernels/ops/linear.h"

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

Var Dense::operator()(ForwardContext& context, const Var& x) const { return linear(context, x, *weight_, bias_); }

}  // namespace deepflow
