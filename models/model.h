#pragma once

#include "core/context.h"
#include "core/name_map.h"
#include "core/parameter_registry.h"
#include "kernels/ops/head_loss.h"

namespace deepflow {

// The extents of a decoder-only transformer that others need to know.
struct ModelShape {
  int64_t layers = 0, width = 0, vocabulary = 0, max_positions = 0;
  int64_t heads = 0, head_dim = 0;
  int64_t kv_width = 0;  // kv_heads * head_dim: elements of one token's keys in one layer of a KeyValueCache
};

// A decoder-only language model whose parameters live in a ParameterRegistry that outlives it. It holds no values: the
// context's store does. Forward passes are pure and may be recorded on several tapes at a time.
class CausalModel {
 public:
  virtual ~CausalModel() = default;
  CausalModel(const CausalModel&) = delete;
  CausalModel& operator=(const CausalModel&) = delete;

  const ModelShape& shape() const { return shape_; }

  // tokens: i32 [M], rows as in context.rows. Returns the final norm's output [M, width] in the compute dtype.
  // With context.cache (generation, no tape) every layer appends to it; the caller advances the cache afterwards.
  // Throws ConfigError when the rows exceed max_positions, DataError for a token outside the vocabulary.
  virtual Var hidden(ForwardContext& context, const Tensor& tokens) const = 0;

  // Labels and weights as in kernels/ops/head_loss.h.
  LossResult loss(ForwardContext& context, const Tensor& tokens, const Tensor& labels, const Tensor& weights) const;
  Tensor logits(ForwardContext& context, const Tensor& tokens) const;  // f32 [M, vocabulary], no tape
  // Of some rows of what `hidden` returned: a generator needs only the last of each sequence.
  Tensor logits_of(ForwardContext& context, const Tensor& hidden_rows) const;

  virtual ForeignNames hugging_face_names() const = 0;

 protected:
  explicit CausalModel(const ModelShape& shape) : shape_(shape) {}
  void check_rows(const ForwardContext& context, const Tensor& tokens) const;

  ModelShape shape_;
  Pack* head_ = nullptr;
};

// Floating-point operations that training on one token of a sequence of `sequence` tokens needs, as the field counts
// them (Chowdhery et al. 2022, appendix B): 6 N + 12 L H K T, where N are the parameters that take part in matrix
// products (all but lookup tables; a tied embedding counts once, as head), L layers, H heads, K head_dim, T sequence.
// The causal mask is not taken off, recomputation is not added.
double training_flops_per_token(const ModelShape& shape, const ParameterRegistry& registry, int64_t sequence);

}  // namespace deepflow
