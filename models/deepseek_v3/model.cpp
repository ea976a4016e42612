#include "models/deepseek_v3/config.h"

namespace deepflow {

std::unique_ptr<CausalModel> DeepseekV3Config::build(Runtime& runtime, ParameterRegistry& registry,
                                                     Recompute recompute) const {
  Routing routing;
  routing.score = RouterScore::kSigmoid;
  routing.group_best = 2;
  routing.normalise = normalise_weights;
  return std::make_unique<Model>(*this, model_options(routing, true), runtime, registry, recompute);
}

}  // namespace deepflow
