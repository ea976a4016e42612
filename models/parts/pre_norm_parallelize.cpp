#include "models/parts/pre_norm_decoder.h"

namespace deepflow {

// What each way to split a model does to a Llama and its like.

// Heads, hidden features and the vocabulary are dealt over the ranks; norms see the rows of the residual stream.
void PreNormDecoder::apply_tensor_parallel(const TensorParallel& tp) {
  embedding_.split_vocabulary(tp);
  for (PreNormBlock& block : blocks_) {
    block.attention_norm.follow_rows(tp);
    block.attention.split_heads(tp);
    block.mlp_norm.follow_rows(tp);
    block.mlp.split_features(tp);
  }
  norm_->follow_rows(tp);
  head_->split_vocabulary(tp);
}

// Only attention looks at other rows.
void PreNormDecoder::apply_context_parallel(const ContextParallel& cp) {
  for (PreNormBlock& block : blocks_) block.attention.split_sequences(cp);
}

void PreNormDecoder::parallelize(ParameterRegistry& registry, const ModelLayout& layout) {
  if (is_split(layout.tp)) apply_tensor_parallel(*layout.tp);
  if (is_split(layout.cp)) apply_context_parallel(*layout.cp);
  assign_chunks(registry, layout.chunks);
}

}  // namespace deepflow
