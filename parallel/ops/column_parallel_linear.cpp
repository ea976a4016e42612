#include "core/error.h"
#include "kernels/ops/kept_input.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/linear_products.h"
#include "parallel/ops/row_exchange.h"
#include "parallel/ops/row_ring.h"
#include "parallel/ops/tensor_linear.h"

#include <optional>
#include <utility>

namespace deepflow {
namespace {

class ColumnLinearNode final : public Node {
 public:
  ColumnLinearNode(const ForwardContext& context, const Var& x, Pack& weight, Pack* bias, const TensorParallel& tp)
      : x_(x),
        weight_(weight),
        bias_(bias),
        tp_(tp),
        deal_{context.rows.rows(), tp.size()},
        products_(context.products),
        wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "column_parallel_linear"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    dy_ = as_operand(context.runtime, std::move(out[0].value), x_.dtype());
    std::vector<Grad> grads;
    if (!tp_.sequence)
      grads.push_back(replicated_rows(context));
    else if (!tp_.overlap || !wants_input_grad_)
      grads.push_back(dealt_rows_at_once(context));
    else
      grads.push_back(dealt_rows_in_rings(context));
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    if (gathering_) gathering_->finish();
    gathering_.reset();
    add_weight_gradient(context, weight_, dy_, tp_.sequence ? all_x_ : x_.get(context.runtime));
    if (bias_) add_bias_gradient(context, *bias_, dy_);
  }

 private:
  // This rank's summand of dx.
  Tensor summand(BackwardContext& context) {
    Tensor dx = Tensor::empty(context.runtime.memory(), {dy_.rows(), weight_.cols}, x_.dtype());
    InputGradProduct(context, weight_, products_)(dy_, dx);
    return dx;
  }

  Grad replicated_rows(BackwardContext& context) {
    if (!wants_input_grad_) return {};
    Tensor dx = summand(context);
    return {dx, tp_.comm->all_reduce(dx, ReduceOp::kSum, weight_.name + ", sum of dx")};
  }

  Grad dealt_rows_at_once(BackwardContext& context) {
    all_x_ = begin_gather(context.runtime, tp_, deal_, x_.get(context.runtime), again()).wait(context.stream);
    x_.drop();
    if (!wants_input_grad_) return {};
    const ArrivingRows dx =
        begin_reduce_scatter(context.runtime, tp_, deal_, summand(context), weight_.name + ", sum of dx");
    return {dx.wait(context.stream), nullptr};
  }

  Grad dealt_rows_in_rings(BackwardContext& context) {
    Runtime& runtime = context.runtime;
    Tensor dx = Tensor::empty(runtime.memory(), {x_.rows(), x_.cols()}, x_.dtype());
    all_x_ = Tensor::empty(runtime.memory(), {deal_.total, x_.cols()}, x_.dtype());
    gathering_.emplace(runtime, context.stream, tp_, deal_, contiguous_rows(runtime, x_.get(runtime)), all_x_, again());
    x_.drop();
    gathering_->begin();  // the weight gradient reads these rows first, and behind it the sums are waited for
    ReduceRing sums(runtime, context.stream, tp_, deal_, dx, weight_.name + ", sum of dx");
    const InputGradProduct multiply(context, weight_, products_);
    for (int step = 0; step < sums.num_steps(); ++step) {
      multiply(sums.same_rows(step, dy_), sums.summand(step));
      if (sums.is_last_round(step)) continue;  // what is under way is waited for by its readers
      sums.add(step);
      gathering_->pass_on(step);
    }
    return {dx, sums.last_additions()};
  }

  std::string again() const { return weight_.name + ", rows of x again"; }

  KeptInput x_;
  Tensor all_x_, dy_;  // all_x: with sequence, once gathered
  Pack& weight_;
  Pack* bias_;
  TensorParallel tp_;
  Deal deal_;
  ProductPrecision products_;
  bool wants_input_grad_;
  std::optional<GatherRing> gathering_;
};

// y [M, out_local] from the dealt rows of x.
void multiply_dealt_rows(ForwardContext& context, const Tensor& x, const ForwardProduct& multiply, const Tensor& y,
                         const TensorParallel& tp, const std::string& name) {
  const Deal deal{y.rows(), tp.size()};
  if (!tp.overlap) {
    multiply(begin_gather(context.runtime, tp, deal, x, name).wait(context.stream), y, true);
    return;
  }
  GatherRing ring(context.runtime, context.stream, tp, deal, contiguous_rows(context.runtime, x), Tensor(), name);
  ring.begin();
  for (int step = 0; step < ring.num_steps(); ++step) {
    ring.pass_on(step);
    multiply(ring.rows(step), ring.same_rows(step, y), true);
  }
}

}  // namespace

Var column_parallel_linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias, const TensorParallel& tp) {
  if (!is_split(&tp)) return linear(context, x, weight, bias);
  DF_ASSERT(x.value.cols() == weight.cols && x.value.dtype() == context.compute, "{}: x {} {}", weight.name,
            x.value.shape().to_string(), name_of(x.value.dtype()));
  const Tensor y = context.empty({tp.sequence ? context.rows.rows() : x.value.rows(), weight.rows}, context.compute);
  {
    const ForwardProduct multiply(context, weight, bias);
    if (tp.sequence)
      multiply_dealt_rows(context, x.value, multiply, y, tp, weight.name + ", rows of x");
    else
      multiply(x.value, y, true);
  }
  if (!context.tape) return {y};
  const Var inputs[] = {x};
  return context.tape->record(std::make_unique<ColumnLinearNode>(context, x, weight, bias, tp), inputs, y);
}

}  // namespace deepflow
