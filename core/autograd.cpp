#include "core/autograd.h"

#include "core/error.h"

#include <algorithm>

namespace deepflow {

Var Tape::leaf(Tensor value) {
  entries_.push_back({nullptr, {}, std::vector<Grad>(1)});
  return {std::move(value), static_cast<NodeId>(entries_.size() - 1), 0};
}

std::vector<Var> Tape::record(std::unique_ptr<Node> node, std::span<const Var> inputs, std::vector<Tensor> outputs) {
  DF_ASSERT(input_cursor_ < 0, "{} recorded on a tape whose backward has begun", node->name());
  Entry entry;
  entry.node = std::move(node);
  for (const Var& in : inputs) entry.inputs.push_back({in.node, in.output});
  entry.grads.resize(outputs.size());
  entries_.push_back(std::move(entry));
  std::vector<Var> vars;
  for (size_t i = 0; i < outputs.size(); ++i)
    vars.push_back({std::move(outputs[i]), static_cast<NodeId>(entries_.size() - 1), static_cast<int>(i)});
  return vars;
}

Var Tape::record(std::unique_ptr<Node> node, std::span<const Var> inputs, Tensor output) {
  std::vector<Tensor> outputs;
  outputs.push_back(std::move(output));
  return record(std::move(node), inputs, std::move(outputs)).front();
}

void Tape::root(const Var& var, Grad seed, BackwardContext& context) {
  DF_ASSERT(var.node != kNoNode, "a root must be on the tape");
  add_grad(context, {var.node, var.output}, std::move(seed));
}

void Tape::root(const Var& var, Tensor seed) {
  DF_ASSERT(var.node != kNoNode && input_cursor_ < 0, "a root must be on the tape before backward");
  Grad& slot = entries_.at(static_cast<size_t>(var.node)).grads.at(static_cast<size_t>(var.output));
  DF_ASSERT(!slot.defined(), "a root twice");
  slot.value = std::move(seed);
}

void Tape::start_backward() {
  if (input_cursor_ >= 0) return;
  input_cursor_ = weight_cursor_ = mark();
}

void Tape::backward_input(BackwardContext& context, int down_to_mark) {
  start_backward();
  while (input_cursor_ > down_to_mark) input_step(context, static_cast<size_t>(--input_cursor_));
}

void Tape::backward_weight(BackwardContext& context, int down_to_mark) {
  DF_ASSERT(input_cursor_ >= 0 && input_cursor_ <= down_to_mark, "weight gradients before input gradients");
  while (weight_cursor_ > down_to_mark) weight_step(context, static_cast<size_t>(--weight_cursor_));
}

void Tape::backward(BackwardContext& context, int down_to_mark) {
  start_backward();
  DF_ASSERT(input_cursor_ == weight_cursor_, "backward after a split backward");
  while (input_cursor_ > down_to_mark) {
    input_step(context, static_cast<size_t>(--input_cursor_));
    weight_step(context, static_cast<size_t>(--weight_cursor_));
  }
}

Grad Tape::take(const Var& leaf) {
  Entry& entry = entries_.at(static_cast<size_t>(leaf.node));
  DF_ASSERT(!entry.node, "only a leaf's gradient can be taken");
  return std::exchange(entry.grads[0], {});
}

void Tape::input_step(BackwardContext& context, size_t index) {
  Entry& entry = entries_[index];
  if (!entry.node) return;
  const bool used = std::any_of(entry.grads.begin(), entry.grads.end(), [](const Grad& g) { return g.defined(); });
  if (!used) {
    entry.node.reset();
    return;
  }
  for (Grad& grad : entry.grads)
    if (grad.pending) std::exchange(grad.pending, nullptr)->wait(context.stream);
  std::vector<Grad> grads = std::move(entry.grads);
  std::vector<Grad> result = entry.node->backward_input(context, grads);
  DF_ASSERT(result.size() == entry.inputs.size(), "{} returned {} gradients for {} inputs", entry.node->name(),
            result.size(), entry.inputs.size());
  grads.clear();
  for (size_t i = 0; i < result.size(); ++i)
    if (result[i].defined() && entry.inputs[i].node != kNoNode)
      add_grad(context, entry.inputs[i], std::move(result[i]));
}

void Tape::weight_step(BackwardContext& context, size_t index) {
  Entry& entry = entries_[index];
  if (!entry.node) return;
  entry.node->backward_weight(context);
  entry.node.reset();
}

void Tape::add_grad(BackwardContext& context, const Source& to, Grad grad) {
  Grad& slot = entries_.at(static_cast<size_t>(to.node)).grads.at(static_cast<size_t>(to.output));
  if (!slot.defined()) {
    slot = std::move(grad);
    return;
  }
  if (slot.pending) std::exchange(slot.pending, nullptr)->wait(context.stream);
  if (grad.pending) grad.pending->wait(context.stream);
  // Add into whichever of the two nobody else holds.
  if (!slot.value.is_sole_owner() && grad.value.is_sole_owner()) std::swap(slot.value, grad.value);
  context.accumulate(slot.value, grad.value);
}

}  // namespace deepflow
