#include "kernels/ops/grouped_linear.h"

#include "core/error.h"
#include "kernels/ops/grouped_products.h"
#include "kernels/ops/kept_input.h"
#include "kernels/ops/linear_products.h"

#include <utility>

namespace deepflow {
namespace {

class GroupedLinearNode final : public Node {
 public:
  GroupedLinearNode(const Var& x, Pack& weight, RowGroups rows)
      : x_(x), weight_(weight), rows_(std::move(rows)), wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "grouped_linear"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    dy_ = as_operand(runtime, std::move(out[0].value), x_.dtype());
    std::vector<Grad> grads(1);
    if (!wants_input_grad_) return grads;
    grads[0].value = Tensor::empty(runtime.memory(), {x_.rows(), x_.cols()}, x_.dtype());
    const Tensor packed = context.store.acquire(weight_, Form::kInputGrad, context.stream);
    grouped_product(runtime, dy_, rows_, packed, grads[0].value);
    context.store.release(weight_);
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    GradientTarget dw = context.store.gradient(weight_);
    grouped_weight_grad(context.runtime, dy_, x_.get(context.runtime), rows_, weight_, dw);
    context.store.contributed(weight_);
  }

 private:
  KeptInput x_;
  Tensor dy_;
  Pack& weight_;
  RowGroups rows_;
  bool wants_input_grad_;
};

}  // namespace

Var grouped_linear(ForwardContext& context, const Var& x, Pack& weight, RowGroups rows) {
  DF_ASSERT(x.value.cols() == weight.cols && x.value.dtype() == context.compute, "{}: x {} {}", weight.name,
            x.value.shape().to_string(), name_of(x.value.dtype()));
  DF_ASSERT(rows.num_groups() == weight.groups && rows.begin.front() == 0 && rows.begin.back() == x.value.rows(),
            "{}: {} rows in {} groups, not {} in {}", weight.name, rows.begin.back(), rows.num_groups(), x.value.rows(),
            weight.groups);
  Tensor y = context.empty({x.value.rows(), weight.group_rows()}, context.compute);
  const Tensor packed = context.store.acquire(weight, Form::kForward, context.stream);
  grouped_product(context.runtime, x.value, rows, packed, y);
  context.store.release(weight);
  if (!context.tape) return {y};
  return context.tape->record(std::make_unique<GroupedLinearNode>(x, weight, std::move(rows)), std::span(&x, 1), y);
}

}  // namespace deepflow
