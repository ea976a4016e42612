#pragma once

#include "core/name_map.h"
#include "models/parts/dense.h"
#include "models/parts/norm.h"

#include <functional>
#include <memory>

namespace deepflow {

struct MtpOptions {
  float weight = 0.3f;  // of its loss beside the model's own: lambda
};

// Multi-token prediction of depth 1 (DeepSeek-V3, arXiv 2412.19437, section 2.2): behind the model, a module that
// predicts the token after the next one,
//     h'_i = W [RMSNorm(Emb(t_{i+1})); RMSNorm(h_i)],   one block,   a norm,   the model's head,
// with the model's embedding and head. h_i is what the model's final norm gives, the head's input, as vLLM and
// Megatron-Core feed it. Row i has the position of h_i.
//
// This is what the module has of its own around the block, which belongs to the model as the layer behind its last:
// mtp.embedding_norm, mtp.hidden_norm, mtp.projection.weight [D, 2 D] (columns of the embedding first, as in the public
// files) and mtp.norm. Every rank of tp has the whole projection: it multiplies the rows of the residual stream that
// are here, and sends nothing.
class MultiTokenPrediction {
 public:
  struct Form {
    Norm::Kind norm = Norm::Kind::kRms;
    int64_t width = 0;
    float norm_eps = 1e-5f, stddev = 0.02f;
  };
  // declare_block declares the block's parameters, between those in front of and behind it.
  MultiTokenPrediction(ParameterRegistry& registry, const Form& form, const MtpOptions& options,
                       const std::function<void()>& declare_block);

  // embedded: f32, what the embedding gives for the next tokens; hidden: compute dtype, of the final norm. Both
  // [M, width], the rows of the residual stream that are here.
  Residual enter(ForwardContext& context, const Var& embedded, const Var& hidden) const;
  Var finish(ForwardContext& context, const Residual& stream) const { return (*norm_)(context, stream).normed; }

  float weight() const { return weight_; }
  void follow_rows(const TensorParallel& tp);

 private:
  Norm embedding_norm_;
  OutputNorm hidden_norm_;
  Dense projection_;
  std::unique_ptr<Norm> norm_;
  float weight_;
};

// The names of these parameters in the public files of DeepSeek-V3, which transformers leaves out when it loads a
// model: model.layers.L.enorm, .hnorm, .eh_proj and .shared_head.norm, L being `layers`, the model's number of them.
// Copies of embedding and head that stand beside them there are ignored. The block's names are those of any layer: the
// caller has added them for layer L. Files may lack all of these: what transformers writes does.
void add_mtp_names(ForeignNames& names, int64_t layers);

}  // namespace deepflow
