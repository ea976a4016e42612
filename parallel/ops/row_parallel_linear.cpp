#include "core/error.h"
#include "kernels/ops/kept_input.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/linear_products.h"
#include "parallel/ops/row_exchange.h"
#include "parallel/ops/row_ring.h"
#include "parallel/ops/tensor_linear.h"

#include <utility>

namespace deepflow {
namespace {

class RowLinearNode final : public Node {
 public:
  RowLinearNode(const ForwardContext& context, const Var& x, Pack& weight, Pack* bias, const TensorParallel& tp)
      : x_(x),
        weight_(weight),
        bias_(bias),
        tp_(tp),
        products_(context.products),
        wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "row_parallel_linear"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    own_dy_ = dy_ = as_operand(runtime, std::move(out[0].value), x_.dtype());
    std::vector<Grad> grads(1);
    if (wants_input_grad_) grads[0].value = Tensor::empty(runtime.memory(), {x_.rows(), x_.cols()}, x_.dtype());
    if (tp_.sequence && tp_.overlap && wants_input_grad_) {
      multiply_in_a_ring(context, grads[0].value);
      return grads;
    }
    const Deal deal{x_.rows(), tp_.size()};
    if (tp_.sequence) dy_ = begin_gather(runtime, tp_, deal, own_dy_, dy_name()).wait(context.stream);
    if (wants_input_grad_) InputGradProduct(context, weight_, products_)(dy_, grads[0].value);
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    add_weight_gradient(context, weight_, dy_, x_.get(context.runtime));
    if (bias_) add_bias_gradient(context, *bias_, own_dy_);
  }

 private:
  std::string dy_name() const { return weight_.name + ", rows of dy"; }

  void multiply_in_a_ring(BackwardContext& context, const Tensor& dx) {
    const Deal deal{x_.rows(), tp_.size()};
    dy_ = Tensor::empty(context.runtime.memory(), {deal.total, own_dy_.cols()}, own_dy_.dtype());
    GatherRing ring(context.runtime, context.stream, tp_, deal, contiguous_rows(context.runtime, own_dy_), dy_,
                    dy_name());
    const InputGradProduct multiply(context, weight_, products_);
    ring.begin();
    for (int step = 0; step < ring.num_steps(); ++step) {
      ring.pass_on(step);
      multiply(ring.rows(step), ring.same_rows(step, dx));
    }
  }

  KeptInput x_;
  Tensor dy_, own_dy_;  // dy: all rows
  Pack& weight_;
  Pack* bias_;
  TensorParallel tp_;
  ProductPrecision products_;
  bool wants_input_grad_;
};

// One rank brings the bias, which thus costs no pass of its own.
bool brings_bias(const TensorParallel& tp) { return tp.rank() == 0; }

Tensor dealt_sum(ForwardContext& context, const Tensor& x, const ForwardProduct& multiply, int64_t out,
                 const TensorParallel& tp, const std::string& name) {
  const Deal deal{x.rows(), tp.size()};
  if (!tp.overlap) {
    const Tensor summand = context.empty({x.rows(), out}, context.compute);
    multiply(x, summand, brings_bias(tp));
    return begin_reduce_scatter(context.runtime, tp, deal, summand, name).wait(context.stream);
  }
  Tensor y = context.empty({deal.count(tp.rank()), out}, context.compute);
  ReduceRing ring(context.runtime, context.stream, tp, deal, y, name);
  for (int step = 0; step < ring.num_steps(); ++step) {
    multiply(ring.same_rows(step, x), ring.summand(step), brings_bias(tp));
    ring.add(step);
  }
  return y;
}

Tensor replicated_sum(ForwardContext& context, const Tensor& x, const ForwardProduct& multiply, int64_t out,
                      const TensorParallel& tp, const std::string& name) {
  Tensor y = context.empty({x.rows(), out}, context.compute);
  multiply(x, y, brings_bias(tp));
  tp.comm->all_reduce(y, ReduceOp::kSum, name)->wait(context.stream);
  return y;
}

}  // namespace

Var row_parallel_linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias, const TensorParallel& tp) {
  if (!is_split(&tp)) return linear(context, x, weight, bias);
  DF_ASSERT(x.value.cols() == weight.cols && x.value.dtype() == context.compute, "{}: x {} {}", weight.name,
            x.value.shape().to_string(), name_of(x.value.dtype()));
  DF_ASSERT(!tp.sequence || x.value.rows() == context.rows.rows(), "{}: {} rows of {}", weight.name, x.value.rows(),
            context.rows.rows());
  Tensor y;
  {
    const ForwardProduct multiply(context, weight, bias);
    const auto sum = tp.sequence ? dealt_sum : replicated_sum;
    y = sum(context, x.value, multiply, weight.rows, tp, weight.name + ", sum of y");
  }
  if (!context.tape) return {y};
  const Var inputs[] = {x};
  return context.tape->record(std::make_unique<RowLinearNode>(context, x, weight, bias, tp), inputs, y);
}

}  // namespace deepflow
