#pragma once

#include "models/model.h"
#include "models/parts/moe_decoder_config.h"
#include "models/parts/self_attention.h"

#include <functional>
#include <vector>

namespace deepflow {

// x + attention(norm(x)), then x + experts(norm(x)); the second addition is left to the next norm.
struct MoeBlock {
  MoeBlock(const MoeDecoderConfig& config, ParameterRegistry& registry, const SelfAttention::Options& attention,
           const MoeOptions& moe);
  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const;

  Norm attention_norm;
  SelfAttention attention;
  Norm moe_norm;
  MoeLayer moe;
};

// Options of the parts as the shared keys say; families change what is special about them.
SelfAttention::Options attention_options(const MoeDecoderConfig& config, int layer);
MoeOptions moe_options(const MoeDecoderConfig& config);

// What Mixtral and Qwen3-MoE have in common: a Llama with a mixture of experts in every layer.
class MoeDecoder final : public CausalModel {
 public:
  struct Options {
    std::function<SelfAttention::Options(int layer)> attention;
    MoeOptions moe;
    ForeignNames names;  // of Hugging Face
  };
  MoeDecoder(const MoeDecoderConfig& config, Options options, Runtime& runtime, ParameterRegistry& registry,
             Recompute recompute);

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  Residual block(ForwardContext& context, int64_t layer, const Residual& stream) const override;
  ForeignNames hugging_face_names() const override { return names_; }

 private:
  Var embed(ForwardContext& context, const Tensor& tokens) const override { return embedding_(context, tokens); }
  // moe_parallelize.cpp: what each way to split a model does to it.
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);
  void apply_expert_parallel(const ModelLayout& layout);

  RopeTable rope_;
  TokenEmbedding embedding_;
  std::vector<MoeBlock> blocks_;
  ForeignNames names_;
};

}  // namespace deepflow
