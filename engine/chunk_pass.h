#pragma once

#include "engine/micro_batch.h"

#include <optional>
#include <vector>

namespace deepflow {

// What all passes of a step have in common.
struct PassOptions {
  bool training = true;  // records a tape
  uint64_t seed = 0;
  int64_t step = 0;
  float label_weight = 1;                // what the loss of a row with a label counts
  float loss_seed = 1;                   // gradient of the loss: the loss scale
  float sequence_weight = 0;             // what a sequence counts in losses of layers (core/context.h)
  StatisticsSink* statistics = nullptr;  // outlives the passes; may be null
};

// One micro-batch in one chunk of the model, on its way forward and back. Layer by layer, so that the forward pass of
// one can be woven with the backward pass of another.
class ChunkPass {
 public:
  ChunkPass(Machine& machine, const PassOptions& options, int chunk, MicroBatch input);
  ChunkPass(const ChunkPass&) = delete;
  ChunkPass& operator=(const ChunkPass&) = delete;

  // `entering`: rows of the residual stream from the chunk before, f32 [stream_rows, width]; undefined for chunk 0.
  void begin_forward(Tensor entering);
  bool forward_layer();  // false when no layer was left
  void end_forward();
  void forward(Tensor entering);

  bool is_last() const { return chunk_ == machine_.last_chunk(); }
  Tensor take_leaving() { return std::move(leaving_.value); }  // for the chunk behind; not of the last one
  double loss() const { return loss_; }                        // last chunk: sum of the weighted losses
  double summed_nll() const;                                   // last chunk: of all rows with a label
  // Last chunk, in training, of a model with multi-token prediction: the sum of its losses, each weighted as the main
  // one of a row is; lambda is not in it.
  double mtp_loss() const { return mtp_loss_; }

  // `gradient`: of what left; undefined for the last chunk.
  void begin_backward(Tensor gradient);
  bool backward_segment();  // input and weight gradients down to the next mark; false when nothing was left
  void backward_input();
  void backward_weight();
  Tensor take_entering_gradient();  // not of chunk 0

 private:
  BackwardContext backward_context();
  void predict_ahead(const Var& hidden);

  Machine& machine_;
  const PassOptions options_;
  const int chunk_;
  MicroBatch input_;
  Tape tape_;
  ForwardContext context_;
  Residual stream_;
  int64_t next_layer_ = 0;
  Var entered_, leaving_;
  std::optional<LossResult> result_;
  std::optional<Var> mtp_result_;  // its loss
  std::vector<int> marks_;
  double loss_ = 0, mtp_loss_ = 0;
};

}  // namespace deepflow
