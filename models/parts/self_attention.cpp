#include "models/parts/self_attention.h"

#include <algorithm>
#include <cmath>

namespace deepflow {
namespace {

using Options = SelfAttention::Options;

AttentionShape attention_shape(const Options& o) {
  AttentionShape shape;
  shape.heads = o.heads;
  shape.kv_heads = o.kv_heads;
  shape.head_dim = o.head_dim;
  shape.scale = o.scale > 0 ? o.scale : static_cast<float>(1 / std::sqrt(static_cast<double>(o.head_dim)));
  shape.softcap = o.softcap;
  shape.window = o.window;
  return shape;
}

std::vector<Dense::Output> qkv_outputs(const std::string& name, const Options& o) {
  const int64_t kv_width = o.kv_heads * o.head_dim;
  return {{name + ".q", o.heads * o.head_dim}, {name + ".k", kv_width}, {name + ".v", kv_width}};
}

}  // namespace

SelfAttention::SelfAttention(ParameterRegistry& registry, const std::string& name, const Options& o)
    : shape_(attention_shape(o)),
      layer_(o.layer),
      watch_{name},
      qkv_(registry, name + ".qkv", qkv_outputs(name, o), {o.width, o.qkv_bias, o.stddev}),
      qk_norm_(o.qk_norm_eps ? std::optional<QueryKeyNorm>(std::in_place, registry, name, o.head_dim, *o.qk_norm_eps)
                             : std::nullopt),
      out_(registry, name + ".out", o.width, {o.heads * o.head_dim, o.out_bias, o.out_stddev}) {}

Var SelfAttention::operator()(ForwardContext& context, const Var& x, const RopeTable* rope_table) const {
  Var qkv = qkv_(context, x);
  if (qk_norm_) qkv = (*qk_norm_)(context, qkv, shape_.heads, shape_.kv_heads);
  if (rope_table) qkv = rope(context, qkv, shape_.heads + shape_.kv_heads, *rope_table);
  return out_(context, attend(context, qkv));
}

Var SelfAttention::attend(ForwardContext& context, const Var& qkv) const {
  if (context.cache) return {attention_cached(context, qkv.value, shape_, *context.cache, layer_)};
  return watched_attention(context, qkv, shape_, cp_, watch_);
}

void SelfAttention::split_heads(const TensorParallel& tp) {
  qkv_.split_outputs(tp, {shape_.heads, shape_.kv_heads, shape_.kv_heads});
  if (qk_norm_) qk_norm_->split_heads();
  out_.split_inputs(tp, shape_.heads);
  shape_.heads /= tp.size();
  shape_.kv_heads = std::max<int64_t>(1, shape_.kv_heads / tp.size());
  watch_.first_head = tp.rank() * shape_.heads;
}

AttentionLayer SelfAttention::description() const {
  const auto heads_of = [&](size_t member) { return qkv_.weight().members[member]->spec.shape[0] / shape_.head_dim; };
  AttentionLayer layer{watch_.name, heads_of(0)};
  if (qk_norm_) layer.bound = "queries and keys are normed";
  if (shape_.softcap > 0) layer.bound = "scores have a soft cap";
  const bool shared_keys = heads_of(1) < layer.heads;
  for (const Pack* pack : {&qkv_.weight(), qkv_.bias()}) {
    if (!pack) continue;
    const auto add = [&](size_t member, double power) {
      layer.rows.push_back({pack->members[member], shape_.head_dim, 0, shape_.head_dim, power});
    };
    add(0, shared_keys ? 1 : 0.5);
    if (!shared_keys) add(1, 0.5);
  }
  return layer;
}

}  // namespace deepflow
