#pragma once

#include "models/llama/config.h"
#include "models/parts/mlp.h"
#include "models/parts/self_attention.h"

#include <vector>

namespace deepflow {

// x + attention(norm(x)), then x + mlp(norm(x)); the second addition is left to the next norm.
struct LlamaBlock {
  LlamaBlock(const LlamaConfig& config, ParameterRegistry& registry, int layer);
  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const;

  Norm attention_norm;
  SelfAttention attention;
  Norm mlp_norm;
  SwigluMlp mlp;
};

class LlamaModel final : public CausalModel {
 public:
  LlamaModel(const LlamaConfig& config, Runtime& runtime, ParameterRegistry& registry, Recompute recompute);

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  Residual block(ForwardContext& context, int64_t layer, const Residual& stream) const override;
  ForeignNames hugging_face_names() const override;

 private:
  Var embed(ForwardContext& context, const Tensor& tokens) const override { return embedding_(context, tokens); }
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);

  LlamaConfig config_;
  RopeTable rope_;
  TokenEmbedding embedding_;
  std::vector<LlamaBlock> blocks_;
};

}  // namespace deepflow
