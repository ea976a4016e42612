#include "models/parts/pre_norm_decoder.h"

#include "models/parts/decoder_names.h"

#include <utility>

namespace deepflow {
namespace {

ModelShape shape_of(const DecoderConfig& config, const PreNormDecoder::Options& options) {
  ModelShape shape = decoder_shape(config);
  shape.qk_norm = options.attention(0).qk_norm_eps.has_value();
  return shape;
}

}  // namespace

PreNormBlock::PreNormBlock(const DecoderConfig& c, ParameterRegistry& registry, const SelfAttention::Options& a,
                           const MlpOptions& m)
    : attention_norm(registry, layer_name(a.layer) + ".attention_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      attention(registry, layer_name(a.layer) + ".attention", a),
      mlp_norm(registry, layer_name(a.layer) + ".mlp_norm", Norm::Kind::kRms, c.width, c.norm_eps),
      mlp(registry, layer_name(a.layer) + ".mlp", m) {}

Residual PreNormBlock::operator()(ForwardContext& context, const Residual& stream, const RopeTable& rope) const {
  const NormResult a = attention_norm(context, stream);
  const NormResult m = mlp_norm(context, {a.residual, attention(context, a.normed, &rope)});
  return {m.residual, mlp(context, m.normed)};
}

PreNormDecoder::PreNormDecoder(const DecoderConfig& c, Options options, Runtime& runtime, ParameterRegistry& registry,
                               Recompute recompute)
    : Decoder(
          c, shape_of(c, options), {}, runtime, registry, recompute,
          [&](ParameterRegistry& r, int layer) { return PreNormBlock(c, r, options.attention(layer), options.mlp); }),
      names_(std::move(options.names)) {}

}  // namespace deepflow
