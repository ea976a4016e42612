#include "models/parts/moe_decoder.h"

namespace deepflow {

// What each way to split a model does to a decoder with experts in every layer.

// Heads, the shared experts and the vocabulary are dealt over the ranks; norms see the rows of the residual stream.
void MoeDecoder::apply_tensor_parallel(const TensorParallel& tp) {
  embedding_.split_vocabulary(tp);
  for (MoeBlock& block : blocks_) {
    block.attention_norm.follow_rows(tp);
    block.attention.split_heads(tp);
    block.moe_norm.follow_rows(tp);
  }
  norm_->follow_rows(tp);
  head_->split_vocabulary(tp);
}

void MoeDecoder::apply_context_parallel(const ContextParallel& cp) {
  for (MoeBlock& block : blocks_) block.attention.split_sequences(cp);
}

// Whole experts, or parts of them, on each rank; their rows come from wherever attention left them.
void MoeDecoder::apply_expert_parallel(const ModelLayout& layout) {
  for (MoeBlock& block : blocks_) {
    if (is_split(layout.ep)) block.moe.split_experts(*layout.ep);
    if (is_split(layout.sequences)) block.moe.split_rows(layout.sequences);
  }
}

void MoeDecoder::parallelize(ParameterRegistry& registry, const ModelLayout& layout) {
  if (is_split(layout.tp)) apply_tensor_parallel(*layout.tp);
  if (is_split(layout.cp)) apply_context_parallel(*layout.cp);
  apply_expert_parallel(layout);
  assign_chunks(registry, layout.chunks);
}

}  // namespace deepflow
