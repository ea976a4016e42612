#include "models/parts/pre_norm_decoder.h"

namespace deepflow {

void describe(ModelShape& shape, const SelfAttention::Options& attention) {
  shape.qk_norm = attention.qk_norm_eps.has_value();
}

void describe(ModelShape& shape, const LatentAttention::Options& attention) {
  shape.value_dim = attention.value_dim;
  shape.latent_rank = attention.latent_rank;
  shape.query_rank = attention.query_rank;
  shape.rope_dim = attention.rope_dim;
}

void describe(ModelShape& shape, const FeedForwardOptions& feed_forward) {
  if (const auto* mlp = std::get_if<MlpOptions>(&feed_forward)) {
    shape.ffn = mlp->ffn;
    return;
  }
  const auto& moe = std::get<MoeOptions>(feed_forward);
  shape.experts = moe.experts;
  shape.expert_choices = moe.routing.choices;
  shape.expert_ffn = moe.ffn;
  shape.shared_ffn = moe.shared_ffn;
}

}  // namespace deepflow
