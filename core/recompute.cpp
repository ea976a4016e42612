
#include "core/context.h"
#include "core/error.h"

namespace deepflow {
namespace {

// Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016: keep the inputs, run forward again in backward.
class RecomputedSegment final : public Node {
 public:
  RecomputedSegment(const ForwardContext& context, std::span<const Var> inputs, Segment segment)
      : context_(context), segment_(std::move(segment)) {
    for (const Var& in : inputs) inputs_.push_back(in.value);
    context_.tape = nullptr;
    context_.statistics = nullptr;
  }

  const char* name() const override { return "recompute"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    std::vector<Var> leaves;
    for (Tensor& value : inputs_) leaves.push_back(tape_.leaf(std::move(value)));
    context_.tape = &tape_;
    const std::vector<Var> outputs = segment_(context_, leaves);
    DF_ASSERT(outputs.size() == out.size());
    for (size_t i = 0; i < out.size(); ++i)
      if (out[i].defined() && outputs[i].node != kNoNode) tape_.root(outputs[i], std::move(out[i]), context);
    tape_.backward_input(context);
    std::vector<Grad> grads;
    for (const Var& leaf : leaves) grads.push_back(tape_.take(leaf));
    return grads;
  }

  void backward_weight(BackwardContext& context) override { tape_.backward_weight(context); }

 private:
  ForwardContext context_;
  Segment segment_;
  std::vector<Tensor> inputs_;
  Tape tape_;
};

}  // namespace

std::vector<Var> recompute(ForwardContext& context, std::span<const Var> inputs, Segment segment) {
  ForwardContext quiet = context;
  quiet.tape = nullptr;
  std::vector<Var> constants;
  for (const Var& in : inputs) constants.push_back({in.value});
  std::vector<Var> results = segment(quiet, constants);
  if (!context.tape) return results;
  std::vector<Tensor> values;
  for (Var& r : results) values.push_back(std::move(r.value));
  return context.tape->record(std::make_unique<RecomputedSegment>(context, inputs, std::move(segment)), inputs,
                              std::move(values));
}

}  // namespace deepflow
