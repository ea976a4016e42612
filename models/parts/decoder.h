#pragma once

#include "models/model.h"
#include "models/parts/decoder_config.h"
#include "models/parts/mlp.h"
#include "models/parts/self_attention.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace deepflow {

// Options of the parts as the shared keys say; families change what is special about them.
SelfAttention::Options attention_options(const DecoderConfig& config, int layer);
MlpOptions mlp_options(const DecoderConfig& config);
ModelShape decoder_shape(const DecoderConfig& config);

// What stands around the blocks.
struct DecoderForm {
  Norm::Kind norm = Norm::Kind::kRms;
  float embedding_scale = 1;
  float logit_softcap = 0;  // 0: none
  std::optional<MtpOptions> mtp = std::nullopt;
};

// Embedding, a stack of blocks with rotary positions, final norm, head (Touvron et al. 2023). Block: movable, with a
// member `attention`, called as block(context, stream, rope). With multi-token prediction there is one block more, made
// as layer c.layers.
template <class Block>
class Decoder : public CausalModel {
 public:
  Residual block(ForwardContext& context, int64_t layer, const Residual& stream) const override {
    const Block& block = blocks_[static_cast<size_t>(layer)];
    return run_block(
        context, stream, recompute_of(layer),
        [this, &block](ForwardContext& inner, const Residual& entering) { return block(inner, entering, rope_); });
  }
  void watch_scores() override {
    for (Block& block : blocks_) block.attention.watch_scores();
  }
  std::vector<AttentionLayer> attention_layers() const override {
    std::vector<AttentionLayer> layers;
    for (const Block& block : blocks_) layers.push_back(block.attention.description());
    return layers;
  }

 protected:
  // make_block(registry, layer) declares the parameters of a layer.
  Decoder(const DecoderConfig& c, const ModelShape& shape, const DecoderForm& form, Runtime& runtime,
          ParameterRegistry& registry, Recompute recompute,
          const std::function<Block(ParameterRegistry&, int)>& make_block)
      : CausalModel(shape, recompute),
        rope_(make_rope_table(runtime, rope_options(c))),
        embedding_(
            registry,
            {.vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std, .scale = form.embedding_scale}) {
    end_layer(registry);
    for (int layer = 0; layer < c.layers; ++layer) {
      blocks_.push_back(make_block(registry, layer));
      end_layer(registry);
    }
    norm_ = std::make_unique<Norm>(registry, "norm", form.norm, c.width, c.norm_eps);
    head_ = std::make_unique<VocabularyHead>(
        registry,
        VocabularyHead::Options{
            .vocabulary = c.vocabulary, .width = c.width, .stddev = c.init_std, .softcap = form.logit_softcap},
        c.tie_embeddings ? embedding_.table() : nullptr);
    if (form.mtp) add_mtp(c, form, registry, make_block);
  }

  Var embed(ForwardContext& context, const Tensor& tokens) const override { return embedding_(context, tokens); }

  RopeTable rope_;
  TokenEmbedding embedding_;
  std::vector<Block> blocks_;  // of the layers, then the one of multi-token prediction

 private:
  void add_mtp(const DecoderConfig& c, const DecoderForm& form, ParameterRegistry& registry,
               const std::function<Block(ParameterRegistry&, int)>& make_block) {
    shape_.mtp = 1;
    embedding_.read_again(registry);
    head_->read_again(registry);
    mtp_ = std::make_unique<MultiTokenPrediction>(
        registry,
        MultiTokenPrediction::Form{.norm = form.norm, .width = c.width, .norm_eps = c.norm_eps, .stddev = c.init_std},
        *form.mtp, [&] { blocks_.push_back(make_block(registry, static_cast<int>(c.layers))); });
  }
};

}  // namespace deepflow
