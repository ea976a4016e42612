#include "kernels/ops/linear.h"

#include "core/error.h"
#include "kernels/ops/kept_input.h"
#include "kernels/ops/linear_products.h"

namespace deepflow {
namespace {

class LinearNode final : public Node {
 public:
  LinearNode(const Var& x, Pack& weight, Pack* bias, ProductPrecision products)
      : x_(x), weight_(weight), bias_(bias), products_(products), wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "linear"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    dy_ = as_operand(context.runtime, std::move(out[0].value), x_.dtype());
    std::vector<Grad> grads(1);
    if (!wants_input_grad_) return grads;
    grads[0].value = Tensor::empty(context.runtime.memory(), {x_.rows(), x_.cols()}, x_.dtype());
    InputGradProduct(context, weight_, products_)(dy_, grads[0].value);
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    add_weight_gradient(context, weight_, dy_, x_.get(context.runtime));
    if (bias_) add_bias_gradient(context, *bias_, dy_);
  }

 private:
  KeptInput x_;
  Tensor dy_;
  Pack& weight_;
  Pack* bias_;
  ProductPrecision products_;
  bool wants_input_grad_;
};

}  // namespace

Var linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias) {
  DF_ASSERT(x.value.cols() == weight.cols && x.value.dtype() == context.compute, "{}: x {} {}", weight.name,
            x.value.shape().to_string(), name_of(x.value.dtype()));
  Tensor y = context.empty({x.value.rows(), weight.rows}, context.compute);
  ForwardProduct(context, weight, bias)(x.value, y, true);
  if (!context.tape) return {y};
  const Var inputs[] = {x};
  return context.tape->record(std::make_unique<LinearNode>(x, weight, bias, context.products), inputs, y);
}

}  // namespace deepflow
