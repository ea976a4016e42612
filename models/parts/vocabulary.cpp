#include "models/parts/vocabulary.h"

#include "kernels/ops/embedding.h"
#include "kernels/ops/scaled.h"
#include "parallel/ops/vocabulary_embedding.h"
#include "parallel/ops/vocabulary_head_loss.h"

namespace deepflow {
namespace {

ParameterSpec table_spec(const std::string& name, int64_t rows, int64_t width, Role role, float stddev) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = {rows, width};
  spec.role = role;
  spec.init = Initialiser::normal(stddev);
  return spec;
}

// Rows need not divide: some ranks have one more.
void deal_rows(Pack& pack) {
  ParameterSpec& spec = pack.members.front()->spec;
  spec.placement = {{.dim = 0, .axes = {"tp"}, .units = spec.shape[0], .even = false}};
}

}  // namespace

TokenEmbedding::TokenEmbedding(ParameterRegistry& registry, const Options& o)
    : table_(registry.add(table_spec("embedding.weight", o.vocabulary, o.width, Role::kEmbedding, o.stddev))),
      scale_(o.scale) {
  if (o.positions > 0)
    positions_ = registry.add(table_spec("positions.weight", o.positions, o.width, Role::kEmbedding, o.stddev));
}

Var TokenEmbedding::operator()(ForwardContext& context, const Tensor& tokens) const {
  const Var x = is_split(tp_) ? vocabulary_embedding(context, tokens, *table_, positions_, *tp_)
                              : embedding(context, tokens, *table_, positions_);
  return scale_ == 1 ? x : scaled(context, x, scale_);
}

void TokenEmbedding::split_vocabulary(const TensorParallel& tp) {
  tp_ = &tp;
  deal_rows(*table_);
  if (positions_ && tp.sequence) positions_->members.front()->spec.partial = {"tp"};
}

VocabularyHead::VocabularyHead(ParameterRegistry& registry, const Options& o, Pack* tied_to)
    : weight_(tied_to), softcap_(o.softcap) {
  if (tied_to)
    registry.use_again(tied_to);
  else
    weight_ = registry.add(table_spec("head.weight", o.vocabulary, o.width, Role::kHead, o.stddev));
}

LossResult VocabularyHead::loss(ForwardContext& context, const Var& x, const Tensor& labels,
                                const Tensor& weights) const {
  if (is_split(tp_)) return vocabulary_head_loss(context, x, *weight_, labels, weights, *tp_, softcap_);
  return head_loss(context, x, *weight_, labels, weights, softcap_);
}

Tensor VocabularyHead::logits(ForwardContext& context, const Tensor& x) const {
  if (is_split(tp_)) return vocabulary_head_logits(context, x, *weight_, *tp_, softcap_);
  return head_logits(context, x, *weight_, softcap_);
}

void VocabularyHead::split_vocabulary(const TensorParallel& tp) {
  tp_ = &tp;
  deal_rows(*weight_);
}

}  // namespace deepflow
