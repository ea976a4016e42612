#pragma once

#include "models/gemma2/config.h"
#include "models/parts/decoder.h"

namespace deepflow {

// x + norm(attention(norm(x))), then x + norm(mlp(norm(x))); the second addition is left to the next norm.
struct Gemma2Block {
  Gemma2Block(const Gemma2Config& config, ParameterRegistry& registry, int layer);
  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const;

  Norm attention_norm;
  SelfAttention attention;
  OutputNorm attention_post_norm;
  Norm mlp_norm;
  GegluMlp mlp;
  OutputNorm mlp_post_norm;
};

class Gemma2Model final : public Decoder<Gemma2Block> {
 public:
  Gemma2Model(const Gemma2Config& config, Runtime& runtime, ParameterRegistry& registry, Recompute recompute);

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  ForeignNames hugging_face_names() const override;

 private:
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);

  Gemma2Config config_;
};

}  // namespace deepflow
