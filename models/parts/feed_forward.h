#pragma once

#include "models/parts/mlp.h"
#include "models/parts/moe.h"

#include <string>
#include <variant>

namespace deepflow {

struct ModelLayout;

using FeedForwardOptions = std::variant<MlpOptions, MoeOptions>;
// What its parameters are called inside a layer: "mlp" or "moe".
std::string feed_forward_name(const FeedForwardOptions& options);

// The second half of a block, whichever of the two the layer has: LAYER.mlp, a SwiGLU MLP, or LAYER.moe, a mixture of
// such.
class FeedForward {
 public:
  FeedForward(ParameterRegistry& registry, const std::string& layer, const FeedForwardOptions& options);

  Var operator()(ForwardContext& context, const Var& x) const;  // x, result: [M, width] compute dtype

  // Hidden features of an MLP are dealt over the ranks; experts have ways of their own.
  void split_features(const TensorParallel& tp);
  // Whole experts, or parts of them, on each rank; their rows come from wherever attention left them.
  void split_experts(const ModelLayout& layout);

  const MoeLayer* experts() const { return std::get_if<MoeLayer>(&part_); }  // null: an MLP

 private:
  std::variant<SwigluMlp, MoeLayer> part_;
};

}  // namespace deepflow
