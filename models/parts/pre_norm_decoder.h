#pragma once

#include "models/parts/decoder.h"
#include "models/parts/decoder_names.h"
#include "models/parts/feed_forward.h"
#include "models/parts/latent_attention.h"

#include <utility>

namespace deepflow {

// x + attention(norm(x)), then x + mlp(norm(x)), or experts in the place of the MLP; the second addition is left to the
// next norm. Attention: SelfAttention or a class like it.
template <class Attention>
struct PreNormBlock {
  PreNormBlock(const DecoderConfig& c, ParameterRegistry& registry, const typename Attention::Options& a,
               const FeedForwardOptions& f)
      : attention_norm(registry, layer_name(a.layer) + ".attention_norm", Norm::Kind::kRms, c.width, c.norm_eps),
        attention(registry, layer_name(a.layer) + ".attention", a),
        feed_forward_norm(registry, layer_name(a.layer) + "." + feed_forward_name(f) + "_norm", Norm::Kind::kRms,
                          c.width, c.norm_eps),
        feed_forward(registry, layer_name(a.layer), f) {}

  Residual operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
    const NormResult a = attention_norm(context, stream);
    const NormResult f = feed_forward_norm(context, {a.residual, attention(context, a.normed, &rope)});
    return {f.residual, feed_forward(context, f.normed)};
  }

  Norm attention_norm;
  Attention attention;
  Norm feed_forward_norm;
  FeedForward feed_forward;
};

// What the options of attention, and those of the second half of each layer in turn, add to a model's shape.
void describe(ModelShape& shape, const SelfAttention::Options& attention);
void describe(ModelShape& shape, const LatentAttention::Options& attention);
void describe(ModelShape& shape, const FeedForwardOptions& feed_forward);

// Llama (Touvron et al. 2023), and the families that differ from it in their attention and in what its options and
// those of the second half of each block say.
template <class Attention>
class PreNormDecoder final : public Decoder<PreNormBlock<Attention>> {
 public:
  using Block = PreNormBlock<Attention>;
  struct Options {
    std::function<typename Attention::Options(int layer)> attention;
    std::function<FeedForwardOptions(int layer)> feed_forward;
    ForeignNames names;  // of Hugging Face
    std::optional<MtpOptions> mtp = std::nullopt;
  };
  PreNormDecoder(const DecoderConfig& config, Options options, Runtime& runtime, ParameterRegistry& registry,
                 Recompute recompute)
      : Decoder<Block>(config, shape_of(config, options), {.mtp = options.mtp}, runtime, registry, recompute,
                       [&](ParameterRegistry& r, int layer) {
                         return Block(config, r, options.attention(layer), options.feed_forward(layer));
                       }),
        names_(std::move(options.names)) {
    for (const Block& block : this->blocks_)
      if (const MoeLayer* experts = block.feed_forward.experts())
        this->expert_layers_.push_back(experts->description());
  }

  void parallelize(ParameterRegistry& registry, const ModelLayout& layout) override;
  ForeignNames hugging_face_names() const override { return names_; }

 private:
  static ModelShape shape_of(const DecoderConfig& config, const Options& options) {
    ModelShape shape = decoder_shape(config);
    shape.ffn = 0;
    describe(shape, options.attention(0));
    for (int layer = 0; layer < config.layers; ++layer) {
      if (shape.experts == 0) shape.dense_layers = layer;
      describe(shape, options.feed_forward(layer));
    }
    if (shape.experts == 0) shape.dense_layers = 0;
    return shape;
  }
  void apply_tensor_parallel(const TensorParallel& tp);
  void apply_context_parallel(const ContextParallel& cp);
  void apply_expert_parallel(const ModelLayout& layout);

  ForeignNames names_;
};

}  // namespace deepflow
