#pragma once

#include "models/mixtral/config.h"
#include "models/parts/moe.h"
#include "models/parts/self_attention.h"

#include <vector>

namespace deepflow {

// x + attention(norm(x)), then x + experts(norm(x)); the second addition is left to the next norm.
struct MixtralBlock {
  MixtralBlock(const MixtralConfig& config, ParameterRegistry& registry, int layer);
  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const;

  Norm attention_norm;
  SelfAttention attention;
  Norm moe_norm;
  MoeLayer moe;
};

class MixtralModel final : public CausalModel {
 public:
  MixtralModel(const MixtralConfig& config, Runtime& runtime, ParameterRegistry& registry, Recompute recompute);

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  Residual block(ForwardContext& context, int64_t layer, const Residual& stream) const override;
  ForeignNames hugging_face_names() const override;

 private:
  Var embed(ForwardContext& context, const Tensor& tokens) const override { return embedding_(context, tokens); }
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);
  void apply_expert_parallel(const ModelLayout& layout);

  MixtralConfig config_;
  RopeTable rope_;
  TokenEmbedding embedding_;
  std::vector<MixtralBlock> blocks_;
};

}  // namespace deepflow
