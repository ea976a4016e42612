#include "engine/chunk_pass.h"

#include "kernels/ops/elementwise.h"

#include <utility>

namespace deepflow {
namespace {

ForwardContext forward_context(Machine& machine, const PassOptions& options, Tape* tape, const RowInfo& rows) {
  ForwardContext context{machine.runtime, machine.stream, machine.store};
  context.tape = tape;
  context.compute = machine.store.compute();
  context.products = machine.products;
  context.training = options.training;
  context.seed = options.seed;
  context.step = options.step;
  context.sequence_weight = options.sequence_weight;
  context.loss_seed = options.loss_seed;
  context.statistics = options.statistics;
  context.rows = rows;
  return context;
}

double sum_over_labels(const Tensor& labels, const Tensor& nll) {
  double sum = 0;
  for (int64_t i = 0; i < nll.num_elements(); ++i)
    if (labels.data<int32_t>()[i] != kMaskedLabel) sum += static_cast<double>(nll.data<float>()[i]);
  return sum;
}

}  // namespace

ChunkPass::ChunkPass(Machine& machine, const PassOptions& options, int chunk, MicroBatch input)
    : machine_(machine),
      options_(options),
      chunk_(chunk),
      input_(std::move(input)),
      context_(forward_context(machine, options, options.training ? &tape_ : nullptr, input_.rows)) {}

void ChunkPass::begin_forward(Tensor entering) {
  next_layer_ = machine_.model.chunks()[static_cast<size_t>(chunk_)].begin;
  if (chunk_ == 0) {
    stream_ = machine_.model.enter(context_, input_.tokens);
    return;
  }
  entered_ = context_.tape ? tape_.leaf(std::move(entering)) : Var{std::move(entering)};
  stream_ = {entered_, std::nullopt};
  entered_.value = {};
}

bool ChunkPass::forward_layer() {
  if (next_layer_ == machine_.model.chunks()[static_cast<size_t>(chunk_)].end) return false;
  marks_.push_back(tape_.mark());
  stream_ = machine_.model.block(context_, next_layer_++, stream_);
  return true;
}

void ChunkPass::end_forward() {
  marks_.push_back(tape_.mark());
  if (is_last()) {
    const Var hidden = machine_.model.finish(context_, std::exchange(stream_, {}));
    const Tensor weights = label_weights(machine_.runtime, input_, options_.label_weight);
    result_ = machine_.model.loss_of(context_, hidden, input_.labels, weights);
    loss_ = static_cast<double>(*result_->loss.value.data<float>());
    if (options_.training && machine_.model.shape().mtp > 0) predict_ahead(hidden);
  } else {
    leaving_ = CausalModel::leave(context_, std::exchange(stream_, {}));
  }
}

// Recorded behind the main loss: backward reads the head first here, and a gradient's first writer is a product.
void ChunkPass::predict_ahead(const Var& hidden) {
  const float lambda = machine_.model.mtp_weight();
  MicroBatch ahead;
  ahead.labels = input_.next_labels;
  ahead.rows = input_.rows;
  const Tensor weights = label_weights(machine_.runtime, ahead, lambda * options_.label_weight);
  const Var rows = machine_.model.hidden_ahead(context_, hidden, input_.next_tokens);
  const LossResult result = machine_.model.loss_of(context_, rows, input_.next_labels, weights);
  mtp_result_ = result.loss;
  mtp_loss_ = sum_over_labels(input_.next_labels, result.nll) * static_cast<double>(options_.label_weight);
}

void ChunkPass::forward(Tensor entering) {
  begin_forward(std::move(entering));
  while (forward_layer()) {
  }
  end_forward();
}

double ChunkPass::summed_nll() const { return sum_over_labels(input_.labels, result_->nll); }

BackwardContext ChunkPass::backward_context() {
  Runtime& rt = machine_.runtime;
  return {rt, machine_.stream, machine_.store,
          [&rt](Tensor& into, const Tensor& x) { accumulate_gradient(rt, into, x); }};
}

void ChunkPass::begin_backward(Tensor gradient) {
  BackwardContext context = backward_context();
  if (!is_last()) {
    tape_.root(leaving_, {std::move(gradient), nullptr}, context);
    return;
  }
  Tensor seed = Tensor::empty(machine_.runtime.memory(), {1}, DType::kF32);
  *seed.data<float>() = options_.loss_seed;
  tape_.root(result_->loss, {seed, nullptr}, context);
  if (mtp_result_) tape_.root(*mtp_result_, {seed, nullptr}, context);
  result_.reset();
  mtp_result_.reset();
}

bool ChunkPass::backward_segment() {
  if (marks_.empty()) return false;
  BackwardContext context = backward_context();
  tape_.backward(context, marks_.back());
  marks_.pop_back();
  if (marks_.empty()) tape_.backward(context, 0);
  return true;
}

void ChunkPass::backward_input() {
  BackwardContext context = backward_context();
  tape_.backward_input(context);
}

void ChunkPass::backward_weight() {
  BackwardContext context = backward_context();
  tape_.backward_weight(context);
}

Tensor ChunkPass::take_entering_gradient() {
  Grad gradient = tape_.take(entered_);
  if (gradient.pending) gradient.pending->wait(machine_.stream);
  return std::move(gradient.value);
}

}  // namespace deepflow
