#pragma once

#include "models/gpt2/config.h"
#include "models/parts/mlp.h"
#include "models/parts/self_attention.h"

#include <vector>

namespace deepflow {

// x + attention(norm(x)), then x + mlp(norm(x)); the second addition is left to the next norm.
class Gpt2Block {
 public:
  Gpt2Block(const Gpt2Config& config, ParameterRegistry& registry, int layer);
  Residual operator()(ForwardContext& context, const Residual& stream) const;

 private:
  std::string name_;
  float dropout_;
  Norm attention_norm_;
  SelfAttention attention_;
  Norm mlp_norm_;
  GeluMlp mlp_;
};

class Gpt2Model final : public CausalModel {
 public:
  Gpt2Model(const Gpt2Config& config, ParameterRegistry& registry, Recompute recompute);

  Var hidden(ForwardContext& context, const Tensor& tokens) const override;
  ForeignNames hugging_face_names() const override;

 private:
  Recompute recompute_;
  float dropout_;
  bool tied_;
  Pack* embedding_;
  Pack* positions_;
  std::vector<Gpt2Block> blocks_;
  std::unique_ptr<Norm> norm_;
};

}  // namespace deepflow
