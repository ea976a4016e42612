#include "models/parts/feed_forward.h"

#include "models/model.h"

namespace deepflow {
namespace {

std::variant<SwigluMlp, MoeLayer> make_part(ParameterRegistry& registry, const std::string& name,
                                            const FeedForwardOptions& options) {
  if (const auto* mlp = std::get_if<MlpOptions>(&options)) return SwigluMlp(registry, name, *mlp);
  return MoeLayer(registry, name, std::get<MoeOptions>(options));
}

}  // namespace

std::string feed_forward_name(const FeedForwardOptions& options) {
  return std::holds_alternative<MlpOptions>(options) ? "mlp" : "moe";
}

FeedForward::FeedForward(ParameterRegistry& registry, const std::string& layer, const FeedForwardOptions& options)
    : part_(make_part(registry, layer + "." + feed_forward_name(options), options)) {}

Var FeedForward::operator()(ForwardContext& context, const Var& x) const {
  return std::visit([&](const auto& part) { return part(context, x); }, part_);
}

void FeedForward::split_features(const TensorParallel& tp) {
  if (auto* mlp = std::get_if<SwigluMlp>(&part_)) mlp->split_features(tp);
}

void FeedForward::split_experts(const ModelLayout& layout) {
  auto* moe = std::get_if<MoeLayer>(&part_);
  if (!moe) return;
  if (is_split(layout.ep)) moe->split_experts(*layout.ep);
  if (is_split(layout.sequences)) moe->split_rows(layout.sequences);
}

}  // namespace deepflow
