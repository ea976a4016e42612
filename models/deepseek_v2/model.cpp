#include "models/deepseek_v2/config.h"

namespace deepflow {

std::unique_ptr<CausalModel> DeepseekV2Config::build(Runtime& runtime, ParameterRegistry& registry,
                                                     Recompute recompute) const {
  Routing routing;
  routing.score = RouterScore::kSoftmax;
  routing.group_best = 1;
  routing.normalise = false;
  return std::make_unique<Model>(*this, model_options(routing, balance.bias_rate > 0), runtime, registry, recompute);
}

}  // namespace deepflow
