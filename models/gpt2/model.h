#pragma once

#include "models/gpt2/config.h"
#include "models/parts/mlp.h"
#include "models/parts/self_attention.h"

#include <vector>

namespace deepflow {

// x + attention(norm(x)), then x + mlp(norm(x)); the second addition is left to the next norm.
struct Gpt2Block {
  Gpt2Block(const Gpt2Config& config, ParameterRegistry& registry, int layer);
  Residual operator()(ForwardContext& context, const Residual& stream) const;

  std::string name;
  float dropout_rate;
  Norm attention_norm;
  SelfAttention attention;
  Norm mlp_norm;
  GeluMlp mlp;
};

class Gpt2Model final : public CausalModel {
 public:
  Gpt2Model(const Gpt2Config& config, ParameterRegistry& registry, Recompute recompute);

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  Residual block(ForwardContext& context, int64_t layer, const Residual& stream) const override;
  void watch_scores() override;
  std::vector<AttentionLayer> attention_layers() const override;
  ForeignNames hugging_face_names() const override;

 private:
  Var embed(ForwardContext& context, const Tensor& tokens) const override;
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);

  float dropout_;
  bool tied_;
  TokenEmbedding embedding_;
  std::vector<Gpt2Block> blocks_;
};

}  // namespace deepflow
