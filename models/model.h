#pragma once

#include "core/context.h"
#include "core/name_map.h"
#include "core/parameter_registry.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/head_loss.h"
#include "models/parts/attention_scores.h"
#include "models/parts/block_stack.h"
#include "models/parts/moe.h"
#include "models/parts/mtp.h"
#include "models/parts/vocabulary.h"
#include "parallel/context_parallel.h"
#include "parallel/layer_split.h"
#include "parallel/tensor_parallel.h"

#include <algorithm>
#include <memory>
#include <vector>

namespace deepflow {

// The extents of a decoder-only transformer that others need to know.
struct ModelShape {
  int64_t layers = 0, width = 0, vocabulary = 0, max_positions = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t value_dim = 0;  // columns of a value head
  // Of latent attention (models/parts/latent_attention.h), else 0.
  int64_t latent_rank = 0, query_rank = 0, rope_dim = 0;
  int64_t ffn = 0;             // of a layer without experts; 0: there is none
  int64_t experts = 0;         // of a layer; 0: none has any
  int64_t dense_layers = 0;    // with experts: how many layers come first that have none
  int64_t expert_choices = 0;  // experts of a token
  int64_t expert_ffn = 0, shared_ffn = 0;
  bool gated_mlp = false;      // two matrices in front of the activation
  int64_t row_statistics = 1;  // f32 numbers that a norm keeps of a row
  bool qk_norm = false;        // queries and keys are normed
  bool post_norms = false;     // a norm behind attention and MLP as well
  int64_t position_rows = 0;   // of the table of learned positions
  bool tied_head = false;      // the head reads the embedding
  int64_t mtp = 0;             // modules of multi-token prediction behind the layers, 0 or 1
};

// How a model is split. What is pointed to outlives the model.
struct ModelLayout {
  const TensorParallel* tp = nullptr;
  const ContextParallel* cp = nullptr;
  const ExpertParallel* ep = nullptr;
  SequenceRanks sequences;         // of cp and tp together
  std::vector<LayerRange> chunks;  // layers of each chunk of the pipeline; empty: one chunk
};

// Throws ConfigError with the arithmetic, and what would do, when this model cannot be split so.
// sequence: rows of a sample.
void check_layout(const ModelShape& shape, const ModelLayout& layout, int64_t sequence);

// What a layer of the key-value cache holds of a token. latent: of latent attention the rows that all its keys and
// values are made of, not those.
CacheShape cache_shape(const ModelShape& shape, bool latent);

// What a block, the embedding and the head cost in a training step, relative to each other: operations a token.
LayerCosts layer_costs(const ModelShape& shape, int64_t sequence);

// A decoder-only language model whose parameters live in a ParameterRegistry that outlives it. It holds no values: the
// context's store does. Forward passes are pure and may be recorded on several tapes at a time.
//
// It is walked in pieces: `enter` makes the residual stream of tokens, `block` takes it through one layer, `finish`
// normalises what leaves the last. Pipeline stages walk the layers of their chunks and hand each other `leave`'s rows.
// Under sequence parallelism the residual stream has this rank's dealt rows only; the others work as they would alone.
class CausalModel {
 public:
  virtual ~CausalModel() = default;
  CausalModel(const CausalModel&) = delete;
  CausalModel& operator=(const CausalModel&) = delete;

  const ModelShape& shape() const { return shape_; }

  // Splits the model; once, before the registry is frozen. Needs check_layout.
  virtual void parallelize(ParameterRegistry& registry, const ModelLayout& layout) = 0;
  const std::vector<LayerRange>& chunks() const { return chunks_; }
  const std::vector<ExpertLayer>& expert_layers() const { return expert_layers_; }  // of all chunks

  // What backward keeps of each layer, none of it kAuto. A model is built with one policy for all of them, kNone where
  // that is kAuto.
  void set_recompute(std::vector<Recompute> of_layer);

  // tokens: i32 [M], rows as in context.rows. Throws ConfigError when the rows exceed max_positions, DataError for a
  // token outside the vocabulary.
  Residual enter(ForwardContext& context, const Tensor& tokens) const;
  virtual Residual block(ForwardContext& context, int64_t layer, const Residual& stream) const = 0;
  Var finish(ForwardContext& context, const Residual& stream) const { return (*norm_)(context, stream).normed; }
  static Var leave(ForwardContext& context, const Residual& stream);  // f32 rows for the next chunk

  // All of it on one rank. Returns the final norm's output [M, width] in the compute dtype. With context.cache
  // (generation, no tape) every layer appends to it; the caller advances the cache afterwards.
  Var hidden(ForwardContext& context, const Tensor& tokens) const;
  // Labels and weights as in kernels/ops/head_loss.h.
  LossResult loss(ForwardContext& context, const Tensor& tokens, const Tensor& labels, const Tensor& weights) const;
  LossResult loss_of(ForwardContext& context, const Var& hidden_rows, const Tensor& labels,
                     const Tensor& weights) const;
  Tensor logits(ForwardContext& context, const Tensor& tokens) const;  // f32 [M, vocabulary], no tape
  // Of some rows of what `hidden` or `hidden_ahead` returned: a generator needs only the last of each sequence.
  Tensor logits_of(ForwardContext& context, const Tensor& hidden_rows) const;

  // Multi-token prediction (models/parts/mtp.h), where shape().mtp says that there is some. hidden: what `finish` gave;
  // next_tokens: i32 [M], for each row the token behind its own. Returns what the module's norm gives [M, width]: a row
  // predicts the token behind that one. Its block is layer shape().layers, of the last chunk, and treated as the last
  // layer is (recomputation); in generation it has that layer of the cache.
  Var hidden_ahead(ForwardContext& context, const Var& hidden, const Tensor& next_tokens) const;
  float mtp_weight() const { return mtp_ ? mtp_->weight() : 0; }  // of the module's loss beside the model's; 0: none

  // From now on attention reports its scores to the context's statistics (models/parts/attention_scores.h).
  virtual void watch_scores() = 0;
  virtual std::vector<AttentionLayer> attention_layers() const = 0;  // of all chunks, that of `hidden_ahead` included

  virtual ForeignNames hugging_face_names() const = 0;

 protected:
  CausalModel(const ModelShape& shape, Recompute recompute);
  Recompute recompute_of(int64_t layer) const {
    return recompute_[static_cast<size_t>(std::min(layer, shape_.layers - 1))];
  }
  virtual Var embed(ForwardContext& context, const Tensor& tokens) const = 0;
  // Packs declared since the last call belong together: first what stands before the layers, then layer by layer.
  void end_layer(const ParameterRegistry& registry);
  // Every parameter gets the chunks that read it.
  void assign_chunks(ParameterRegistry& registry, const std::vector<LayerRange>& chunks);

  ModelShape shape_;
  std::unique_ptr<Norm> norm_;
  std::unique_ptr<VocabularyHead> head_;
  std::vector<ExpertLayer> expert_layers_;
  std::unique_ptr<MultiTokenPrediction> mtp_;  // may be null

 private:
  void check_rows(const ForwardContext& context, const Tensor& tokens) const;
  int64_t layer_of_pack(size_t pack) const;  // -1: before the first; layers: behind the last

  std::vector<LayerRange> chunks_;
  std::vector<Recompute> recompute_;
  std::vector<size_t> end_of_layer_;  // number of packs declared until then
};

// Floating-point operations that training on one token of a sequence of `sequence` tokens needs, as the field counts
// them (Chowdhery et al. 2022, appendix B): 6 N + 6 L H (K + V) T, where N are the parameters that take part in matrix
// products (all but lookup tables; a tied embedding counts once, as head; of the experts those that a token goes to), L
// layers, H heads, K head_dim, V value_dim, T sequence. Multi-token prediction counts as one more layer and reading
// of the head.
// The causal mask is not taken off, recomputation is not added.
double training_flops_per_token(const ModelShape& shape, const ParameterRegistry& registry, int64_t sequence);

}  // namespace deepflow
