#include "models/parts/pre_norm_decoder.h"

namespace deepflow {

// What each way to split a model does to a Llama and its like.

// Heads, hidden features and the vocabulary are dealt over the ranks; norms see the rows of the residual stream.
template <class Attention>
void PreNormDecoder<Attention>::apply_tensor_parallel(const TensorParallel& tp) {
  this->embedding_.split_vocabulary(tp);
  for (Block& block : this->blocks_) {
    block.attention_norm.follow_rows(tp);
    block.attention.split_heads(tp);
    block.feed_forward_norm.follow_rows(tp);
    block.feed_forward.split_features(tp);
  }
  this->norm_->follow_rows(tp);
  if (this->mtp_) this->mtp_->follow_rows(tp);
  this->head_->split_vocabulary(tp);
}

// Only attention looks at other rows.
template <class Attention>
void PreNormDecoder<Attention>::apply_context_parallel(const ContextParallel& cp) {
  for (Block& block : this->blocks_) block.attention.split_sequences(cp);
}

// Experts go by ranks of their own, whatever tp and cp made of the rows.
template <class Attention>
void PreNormDecoder<Attention>::apply_expert_parallel(const ModelLayout& layout) {
  for (Block& block : this->blocks_) block.feed_forward.split_experts(layout);
}

template <class Attention>
void PreNormDecoder<Attention>::parallelize(ParameterRegistry& registry, const ModelLayout& layout) {
  if (is_split(layout.tp)) apply_tensor_parallel(*layout.tp);
  if (is_split(layout.cp)) apply_context_parallel(*layout.cp);
  apply_expert_parallel(layout);
  this->assign_chunks(registry, layout.chunks);
}

template class PreNormDecoder<SelfAttention>;
template class PreNormDecoder<LatentAttention>;

}  // namespace deepflow
