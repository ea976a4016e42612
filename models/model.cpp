#include "models/model.h"

#include "core/error.h"
#include "kernels/ops/residual.h"

#include <algorithm>

namespace deepflow {

CausalModel::CausalModel(const ModelShape& shape, Recompute recompute)
    : shape_(shape),
      chunks_{{0, static_cast<int>(shape.layers)}},
      recompute_(static_cast<size_t>(shape.layers), recompute == Recompute::kAuto ? Recompute::kNone : recompute) {}

void CausalModel::set_recompute(std::vector<Recompute> of_layer) {
  DF_ASSERT(of_layer.size() == recompute_.size(), "{} policies for {} layers", of_layer.size(), recompute_.size());
  recompute_ = std::move(of_layer);
}

Residual CausalModel::enter(ForwardContext& context, const Tensor& tokens) const {
  check_rows(context, tokens);
  return {embed(context, tokens), std::nullopt};
}

Var CausalModel::leave(ForwardContext& context, const Residual& stream) {
  return stream.delta ? add_residual(context, stream.x, *stream.delta) : stream.x;
}

Var CausalModel::hidden(ForwardContext& context, const Tensor& tokens) const {
  Residual stream = enter(context, tokens);
  for (int64_t layer = 0; layer < shape_.layers; ++layer) stream = block(context, layer, stream);
  return finish(context, stream);
}

LossResult CausalModel::loss(ForwardContext& context, const Tensor& tokens, const Tensor& labels,
                             const Tensor& weights) const {
  return loss_of(context, hidden(context, tokens), labels, weights);
}

LossResult CausalModel::loss_of(ForwardContext& context, const Var& hidden_rows, const Tensor& labels,
                                const Tensor& weights) const {
  return head_->loss(context, hidden_rows, labels, weights);
}

Tensor CausalModel::logits(ForwardContext& context, const Tensor& tokens) const {
  return logits_of(context, hidden(context, tokens).value);
}

Tensor CausalModel::logits_of(ForwardContext& context, const Tensor& hidden_rows) const {
  return head_->logits(context, hidden_rows);
}

Var CausalModel::hidden_ahead(ForwardContext& context, const Var& hidden, const Tensor& next_tokens) const {
  DF_ASSERT(mtp_, "a model without multi-token prediction");
  const Residual stream = mtp_->enter(context, embed(context, next_tokens), hidden);
  return mtp_->finish(context, block(context, shape_.layers, stream));
}

void CausalModel::end_layer(const ParameterRegistry& registry) { end_of_layer_.push_back(registry.packs().size()); }

void CausalModel::assign_chunks(ParameterRegistry& registry, const std::vector<LayerRange>& chunks) {
  if (chunks.empty()) return;
  chunks_ = chunks;
  const int last = static_cast<int>(chunks.size()) - 1;
  const auto chunk_of_layer = [&](int64_t layer) {
    int chunk = 0;
    while (chunk < last && layer >= chunks[static_cast<size_t>(chunk)].end) ++chunk;
    return chunk;
  };
  for (Pack& pack : registry.packs()) {
    const int64_t layer = layer_of_pack(static_cast<size_t>(pack.id));
    const int chunk = layer < 0 ? 0 : layer == shape_.layers ? last : chunk_of_layer(layer);
    for (Parameter* p : pack.members) {
      std::vector<int>& readers = p->spec.chunks;
      std::fill(readers.begin(), readers.end(), chunk);
      if (readers.size() > 1) std::fill(readers.begin() + 1, readers.end(), last);  // tied head, multi-token prediction
    }
  }
}

int64_t CausalModel::layer_of_pack(size_t pack) const {
  DF_ASSERT(end_of_layer_.size() == static_cast<size_t>(shape_.layers) + 1, "{} ends of layers", end_of_layer_.size());
  const auto end = std::upper_bound(end_of_layer_.begin(), end_of_layer_.end(), pack);
  return end - end_of_layer_.begin() - 1;
}

void CausalModel::check_rows(const ForwardContext& context, const Tensor& tokens) const {
  DF_ASSERT(tokens.num_elements() == context.rows.rows(), "{} tokens for {} rows", tokens.num_elements(),
            context.rows.rows());
  DF_ASSERT(!context.cache || !context.tape, "a key-value cache is for inference");
  const int64_t length = context.rows.sequence + (context.cache ? context.cache->length() : 0);
  if (length > shape_.max_positions)
    throw ConfigError(
        "model: a sequence of {} tokens is longer than the {} positions that the model has (model.max_positions)",
        length, shape_.max_positions);
}

CacheShape cache_shape(const ModelShape& s, bool latent) {
  if (s.latent_rank > 0 && latent) return {1, s.latent_rank + s.rope_dim, s.latent_rank, true};
  return {s.kv_heads, s.head_dim, s.value_dim};
}

namespace {

// Elements of the matrices of one layer's attention.
int64_t attention_matrices(const ModelShape& s) {
  const int64_t out = s.heads * s.value_dim * s.width;
  if (s.latent_rank == 0) return s.width * (s.heads * s.head_dim + s.kv_heads * (s.head_dim + s.value_dim)) + out;
  const int64_t queries =
      s.query_rank > 0 ? s.query_rank * (s.width + s.heads * s.head_dim) : s.width * s.heads * s.head_dim;
  const int64_t up = s.heads * (s.head_dim - s.rope_dim + s.value_dim);
  return queries + s.width * (s.latent_rank + s.rope_dim) + s.latent_rank * up + out;
}

// Elements of the matrices of a layer's second half that a token meets, mean over the layers.
int64_t feed_forward_matrices(const ModelShape& s) {
  const int64_t dense = (s.gated_mlp ? 3 : 2) * s.ffn * s.width;
  if (s.experts == 0) return dense;
  const int64_t experts = s.width * (3 * (s.expert_choices * s.expert_ffn + s.shared_ffn) + s.experts);
  return (s.dense_layers * dense + (s.layers - s.dense_layers) * experts) / s.layers;
}

}  // namespace

LayerCosts layer_costs(const ModelShape& s, int64_t sequence) {
  const int64_t attention = s.heads * (s.head_dim + s.value_dim) / 2 * sequence;  // the unmasked half of both products
  LayerCosts costs{.layer = static_cast<double>(attention_matrices(s) + feed_forward_matrices(s) + attention),
                   .embedding = static_cast<double>(s.width),
                   .head = static_cast<double>(s.width) * static_cast<double>(s.vocabulary)};
  if (s.mtp > 0) costs.head += costs.head + costs.layer + costs.embedding + static_cast<double>(2 * s.width * s.width);
  return costs;
}

namespace {

// Products of a token that read the parameter. The module of multi-token prediction reads head and embedding again.
int64_t num_products(const ModelShape& shape, const ParameterSpec& spec) {
  const auto readings = static_cast<int64_t>(spec.chunks.size());
  if (spec.role == Role::kBuffer) return 0;
  if (spec.role == Role::kHead) return readings;
  if (spec.role != Role::kEmbedding) return 1;
  return shape.tied_head ? readings / 2 : 0;  // as many look-ups; a table of positions has that one alone
}

}  // namespace

double training_flops_per_token(const ModelShape& shape, const ParameterRegistry& registry, int64_t sequence) {
  int64_t in_products = 0;
  for (const Parameter& p : registry.parameters()) {
    const int64_t elements = p.spec.shape.num_elements() * num_products(shape, p.spec);
    in_products += p.spec.role == Role::kExpert ? elements / shape.experts * shape.expert_choices : elements;
  }
  const double attention =
      6.0 * static_cast<double>((shape.layers + shape.mtp) * shape.heads * (shape.head_dim + shape.value_dim)) *
      static_cast<double>(sequence);
  return 6.0 * static_cast<double>(in_products) + attention;
}

}  // namespace deepflow
