#include "models/gemma2/model.h"

#include "models/gemma2/name_map.h"
#include "models/parts/decoder_names.h"

#include <cmath>

namespace deepflow {
namespace {

constexpr Norm::Kind kNorm = Norm::Kind::kRmsPlusOne;

SelfAttention::Options gemma2_attention(const Gemma2Config& c, int layer) {
  SelfAttention::Options o = attention_options(c, layer);
  o.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.query_pre_attn_scalar)));
  o.softcap = static_cast<float>(c.attention_softcap);
  o.window = c.window_of(layer);
  return o;
}

ModelShape shape_of(const Gemma2Config& c) {
  ModelShape shape = decoder_shape(c);
  shape.post_norms = true;
  return shape;
}

DecoderForm form_of(const Gemma2Config& c) {
  return {.norm = kNorm,
          .embedding_scale = std::sqrt(static_cast<float>(c.width)),
          .logit_softcap = static_cast<float>(c.logit_softcap)};
}

}  // namespace

Gemma2Block::Gemma2Block(const Gemma2Config& c, ParameterRegistry& registry, int layer)
    : attention_norm(registry, layer_name(layer) + ".attention_norm", kNorm, c.width, c.norm_eps),
      attention(registry, layer_name(layer) + ".attention", gemma2_attention(c, layer)),
      attention_post_norm(registry, layer_name(layer) + ".attention_post_norm", kNorm, c.width, c.norm_eps),
      mlp_norm(registry, layer_name(layer) + ".mlp_norm", kNorm, c.width, c.norm_eps),
      mlp(registry, layer_name(layer) + ".mlp", mlp_options(c)),
      mlp_post_norm(registry, layer_name(layer) + ".mlp_post_norm", kNorm, c.width, c.norm_eps) {}

Residual Gemma2Block::operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
  const NormResult a = attention_norm(context, stream);
  const Var attended = attention_post_norm(context, attention(context, a.normed, &rope));
  const NormResult m = mlp_norm(context, {a.residual, attended});
  return {m.residual, mlp_post_norm(context, mlp(context, m.normed))};
}

Gemma2Model::Gemma2Model(const Gemma2Config& c, Runtime& runtime, ParameterRegistry& registry, Recompute recompute)
    : Decoder(c, shape_of(c), form_of(c), runtime, registry, recompute,
              [&c](ParameterRegistry& r, int layer) { return Gemma2Block(c, r, layer); }),
      config_(c) {}

ForeignNames Gemma2Model::hugging_face_names() const { return gemma2_hugging_face_names(config_); }

}  // namespace deepflow
