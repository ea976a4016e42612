#pragma once

#include "models/parts/decoder.h"

namespace deepflow {

// x + attention(norm(x)), then x + mlp(norm(x)); the second addition is left to the next norm.
struct PreNormBlock {
  PreNormBlock(const DecoderConfig& config, ParameterRegistry& registry, const SelfAttention::Options& attention,
               const MlpOptions& mlp);
  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const;

  Norm attention_norm;
  SelfAttention attention;
  Norm mlp_norm;
  SwigluMlp mlp;
};

// Llama (Touvron et al. 2023), and the families that differ from it in their attention's and MLP's options alone.
class PreNormDecoder final : public Decoder<PreNormBlock> {
 public:
  struct Options {
    std::function<SelfAttention::Options(int layer)> attention;
    MlpOptions mlp;
    ForeignNames names;  // of Hugging Face
  };
  PreNormDecoder(const DecoderConfig& config, Options options, Runtime& runtime, ParameterRegistry& registry,
                 Recompute recompute);

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  ForeignNames hugging_face_names() const override { return names_; }

 private:
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);

  ForeignNames names_;
};

}  // namespace deepflow
