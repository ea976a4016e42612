#pragma once

#include "models/llama/config.h"
#include "models/parts/mlp.h"
#include "models/parts/self_attention.h"

#include <vector>

namespace deepflow {

// x + attention(norm(x)), then x + mlp(norm(x)); the second addition is left to the next norm.
class LlamaBlock {
 public:
  LlamaBlock(const LlamaConfig& config, ParameterRegistry& registry, int layer);
  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const;

 private:
  Norm attention_norm_;
  SelfAttention attention_;
  Norm mlp_norm_;
  SwigluMlp mlp_;
};

class LlamaModel final : public CausalModel {
 public:
  LlamaModel(const LlamaConfig& config, Runtime& runtime, ParameterRegistry& registry, Recompute recompute);

  Var hidden(ForwardContext& context, const Tensor& tokens) const override;
  ForeignNames hugging_face_names() const override;

 private:
  LlamaConfig config_;
  Recompute recompute_;
  RopeTable rope_;
  Pack* embedding_;
  std::vector<LlamaBlock> blocks_;
  std::unique_ptr<Norm> norm_;
};

}  // namespace deepflow
