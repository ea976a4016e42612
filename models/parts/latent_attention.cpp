#include "models/parts/latent_attention.h"

#include "core/error.h"
#include "kernels/ops/column_blocks.h"
#include "parallel/ops/row_exchange.h"

#include <cmath>
#include <vector>

namespace deepflow {
namespace {

using Options = LatentAttention::Options;

AttentionShape attention_shape(const Options& o) {
  AttentionShape shape;
  shape.heads = shape.kv_heads = o.heads;
  shape.head_dim = o.nope_dim + o.rope_dim;
  shape.value_dim = o.value_dim;
  shape.scale = o.scale > 0 ? o.scale : static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  return shape;
}

std::vector<Dense::Output> down_outputs(const std::string& name, const Options& o) {
  std::vector<Dense::Output> outputs = {{name + ".kv_down", o.latent_rank}, {name + ".k_rope", o.rope_dim}};
  if (o.query_rank > 0) outputs.insert(outputs.begin(), {name + ".q_down", o.query_rank});
  return outputs;
}

OutputNorm make_norm(ParameterRegistry& registry, const std::string& name, int64_t width, const Options& o) {
  return {registry, name, Norm::Kind::kRms, width, o.norm_eps};
}

Dense make_q_up(ParameterRegistry& registry, const std::string& name, const Options& o) {
  const int64_t width = o.heads * (o.nope_dim + o.rope_dim);
  if (o.query_rank > 0) return {registry, name + ".q_up", width, {o.query_rank, false, o.stddev}};
  return {registry, name + ".q", width, {o.width, false, o.stddev}};
}

}  // namespace

LatentAttention::LatentAttention(ParameterRegistry& registry, const std::string& name, const Options& o)
    : heads_{o.heads, o.nope_dim, o.rope_dim, o.value_dim},
      shape_(attention_shape(o)),
      query_rank_(o.query_rank),
      latent_rank_(o.latent_rank),
      layer_(o.layer),
      watch_{name},
      down_(registry, name + ".down", down_outputs(name, o), {o.width, o.bias, o.stddev}),
      q_norm_(o.query_rank > 0 ? std::optional(make_norm(registry, name + ".q_norm", o.query_rank, o)) : std::nullopt),
      kv_norm_(make_norm(registry, name + ".kv_norm", o.latent_rank, o)),
      q_up_(make_q_up(registry, name, o)),
      kv_up_(registry, name + ".kv_up", o.heads * (o.nope_dim + o.value_dim), {o.latent_rank, false, o.stddev}),
      out_(registry, name + ".out", o.width, {o.heads * o.value_dim, o.bias, o.out_stddev}) {}

Var LatentAttention::operator()(ForwardContext& context, const Var& x, const RopeTable* rope) const {
  const Rows rows = make_rows(context, x);
  return out_(context, context.cache ? attend_cached(context, rows, *rope) : attend(context, rows, *rope));
}

LatentAttention::Rows LatentAttention::make_rows(ForwardContext& context, const Var& x) const {
  Var down = down_(context, x);
  if (is_split(tp_)) down = tp_->sequence ? gather_rows(context, down, *tp_) : share_rows(context, down, *tp_);
  std::vector<int64_t> widths = {latent_rank_, heads_.rope_dim};
  if (query_rank_ > 0) widths.insert(widths.begin(), query_rank_);
  const std::vector<Var> blocks = split_columns(context, down, widths);
  const Var& latent = blocks[blocks.size() - 2];
  const Var q = q_norm_ ? q_up_(context, (*q_norm_)(context, blocks.front())) : q_up_(context, x);
  return {q, kv_norm_(context, latent), blocks.back()};
}

Var LatentAttention::attend(ForwardContext& context, const Rows& rows, const RopeTable& rope) const {
  const Var kv = kv_up_(context, rows.latent);
  return watched_attention(context, latent_qkv(context, rows.q, kv, rows.k_rope, heads_, rope), shape_, cp_, watch_);
}

Var LatentAttention::attend_cached(ForwardContext& context, const Rows& rows, const RopeTable& rope) const {
  KeyValueCache& cache = *context.cache;
  if (!cache.shape().values_in_keys) {
    const Var qkv = latent_qkv(context, rows.q, kv_up_(context, rows.latent), rows.k_rope, heads_, rope);
    return {attention_cached(context, qkv.value, shape_, cache, layer_)};
  }
  const Tensor keys = latent_keys(context, rows.latent.value, rows.k_rope.value, rope);
  if (cache.length() == 0) {
    append_keys(context, keys, cache, layer_);
    return attend(context, rows, rope);
  }
  AttentionShape absorbed = shape_;
  absorbed.kv_heads = 1;
  absorbed.head_dim = latent_rank_ + heads_.rope_dim;
  absorbed.value_dim = latent_rank_;
  const Tensor qk = absorbed_qk(context, rows.q.value, keys, kv_up_.weight(), heads_, rope);
  const Tensor o = attention_cached(context, qk, absorbed, cache, layer_);
  return {absorbed_values(context, o, kv_up_.weight(), heads_)};
}

void LatentAttention::split_heads(const TensorParallel& tp) {
  tp_ = &tp;
  if (tp.sequence) down_.follow_rows();
  if (q_norm_) q_norm_->split_readers();
  kv_norm_.split_readers();
  const int64_t heads = heads_.heads;
  if (q_norm_)
    q_up_.deal_outputs({heads});
  else
    q_up_.split_outputs(tp, {heads});
  kv_up_.deal_outputs({heads});
  out_.split_inputs(tp, heads);
  heads_.heads /= tp.size();
  shape_.heads = shape_.kv_heads = heads_.heads;
  watch_.first_head = tp.rank() * heads_.heads;
}

AttentionLayer LatentAttention::description() const {
  const Parameter *q = q_up_.weight().members[0], *kv = kv_up_.weight().members[0];
  AttentionLayer layer{watch_.name, q->spec.shape[0] / heads_.key_dim()};
  layer.rows = {{q, heads_.key_dim(), 0, heads_.nope_dim, 0.5},
                {q, heads_.key_dim(), heads_.nope_dim, heads_.rope_dim, 1},
                {kv, heads_.up_dim(), 0, heads_.nope_dim, 0.5}};
  return layer;
}

}  // namespace deepflow
