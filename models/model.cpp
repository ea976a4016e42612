#include "models/model.h"

#include "core/error.h"
#include "kernels/ops/attention.h"

namespace deepflow {

LossResult CausalModel::loss(ForwardContext& context, const Tensor& tokens, const Tensor& labels,
                             const Tensor& weights) const {
  return head_loss(context, hidden(context, tokens), *head_, labels, weights);
}

Tensor CausalModel::logits(ForwardContext& context, const Tensor& tokens) const {
  return logits_of(context, hidden(context, tokens).value);
}

Tensor CausalModel::logits_of(ForwardContext& context, const Tensor& hidden_rows) const {
  return head_logits(context, hidden_rows, *head_);
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

double training_flops_per_token(const ModelShape& shape, const ParameterRegistry& registry, int64_t sequence) {
  int64_t in_products = 0;
  for (const Parameter& p : registry.parameters()) {
    const bool only_looked_up = p.spec.role == Role::kEmbedding && p.spec.chunks.size() == 1;
    if (!only_looked_up) in_products += p.spec.shape.num_elements();
  }
  const double attention =
      12.0 * static_cast<double>(shape.layers * shape.heads * shape.head_dim) * static_cast<double>(sequence);
  return 6.0 * static_cast<double>(in_products) + attention;
}

}  // namespace deepflow
