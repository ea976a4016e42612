#include "kernels/ops/linear.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/int8_matmul.h"
#include "kernels/ops/matmul.h"

namespace deepflow {
namespace {

class LinearNode final : public Node {
 public:
  LinearNode(const Var& x, Pack& weight, Pack* bias, ProductPrecision products)
      : x_(x.value), weight_(weight), bias_(bias), products_(products), wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "linear"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    dy_ = std::move(out[0].value);
    if (dy_.dtype() != x_.dtype()) {
      Tensor cast = Tensor::empty(context.runtime.memory(), dy_.shape(), x_.dtype());
      copy(context.runtime, dy_, cast);
      dy_ = cast;
    }
    std::vector<Grad> grads(1);
    if (!wants_input_grad_) return grads;
    Tensor dx = Tensor::empty(context.runtime.memory(), {x_.rows(), x_.cols()}, x_.dtype());
    const bool int8 = products_ == ProductPrecision::kInt8;
    const Tensor packed =
        context.store.acquire(weight_, int8 ? Form::kInputGradInt8 : Form::kInputGrad, context.stream);
    auto* multiply = int8 ? int8_matmul_input_grad : matmul_input_grad;
    multiply(context.runtime, dy_, packed, weight_.cols, dx);
    context.store.release(weight_);
    grads[0].value = std::move(dx);
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    GradientTarget dw = context.store.gradient(weight_);
    matmul_weight_grad(context.runtime, dy_, x_, dw);
    context.store.contributed(weight_);
    if (!bias_) return;
    GradientTarget db = context.store.gradient(*bias_);
    column_sums(context.runtime, dy_, db);
    context.store.contributed(*bias_);
  }

 private:
  Tensor x_, dy_;
  Pack& weight_;
  Pack* bias_;
  ProductPrecision products_;
  bool wants_input_grad_;
};

}  // namespace

Var linear(ForwardContext& context, const Var& x, Pack& weight, Pack* bias) {
  DF_ASSERT(x.value.cols() == weight.cols && x.value.dtype() == context.compute, "{}: x {} {}", weight.name,
            x.value.shape().to_string(), name_of(x.value.dtype()));
  DF_ASSERT(weight.physical_rows == weight.rows, "{} has padded rows", weight.name);
  DF_ASSERT(!bias || bias->num_elements() == weight.rows, "{} and its bias", weight.name);
  const bool int8 = context.products == ProductPrecision::kInt8;
  DF_ASSERT(!int8 || context.compute == DType::kBF16, "int8 products with {}", name_of(context.compute));
  Tensor y = context.empty({x.value.rows(), weight.rows}, context.compute);
  const Tensor packed = context.store.acquire(weight, int8 ? Form::kForwardInt8 : Form::kForward, context.stream);
  const Tensor b = bias ? context.store.acquire(*bias, Form::kMaster, context.stream) : Tensor();
  auto* multiply = int8 ? int8_matmul_forward : matmul_forward;
  multiply(context.runtime, x.value, packed, weight.rows, bias ? &b : nullptr, y);
  context.store.release(weight);
  if (bias) context.store.release(*bias);
  if (!context.tape) return {y};
  const Var inputs[] = {x};
  return context.tape->record(std::make_unique<LinearNode>(x, weight, bias, context.products), inputs, y);
}

}  // namespace deepflow
