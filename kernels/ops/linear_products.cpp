#include "kernels/ops/linear_products.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/int8_matmul.h"
#include "kernels/ops/matmul.h"

namespace deepflow {

ForwardProduct::ForwardProduct(ForwardContext& context, Pack& weight, Pack* bias)
    : runtime_(context.runtime),
      store_(context.store),
      weight_(weight),
      bias_(bias),
      int8_(context.products == ProductPrecision::kInt8) {
  DF_ASSERT(weight.physical_rows == weight.rows, "{} has padded rows", weight.name);
  DF_ASSERT(!bias || bias->num_elements() == weight.rows, "{} and its bias", weight.name);
  DF_ASSERT(!int8_ || context.compute == DType::kBF16, "int8 products with {}", name_of(context.compute));
  packed_ = store_.acquire(weight, int8_ ? Form::kForwardInt8 : Form::kForward, context.stream);
  if (bias) bias_values_ = store_.acquire(*bias, Form::kMaster, context.stream);
}

ForwardProduct::~ForwardProduct() {
  store_.release(weight_);
  if (bias_) store_.release(*bias_);
}

void ForwardProduct::operator()(const Tensor& x, Tensor y, bool add_bias) const {
  auto* multiply = int8_ ? int8_matmul_forward : matmul_forward;
  multiply(runtime_, x, packed_, weight_.rows, bias_ && add_bias ? &bias_values_ : nullptr, y);
}

InputGradProduct::InputGradProduct(BackwardContext& context, Pack& weight, ProductPrecision products)
    : runtime_(context.runtime),
      store_(context.store),
      weight_(weight),
      int8_(products == ProductPrecision::kInt8),
      packed_(context.store.acquire(weight, int8_ ? Form::kInputGradInt8 : Form::kInputGrad, context.stream)) {}

InputGradProduct::~InputGradProduct() { store_.release(weight_); }

void InputGradProduct::operator()(const Tensor& dy, Tensor dx) const {
  auto* multiply = int8_ ? int8_matmul_input_grad : matmul_input_grad;
  multiply(runtime_, dy, packed_, weight_.cols, dx);
}

Tensor as_operand(Runtime& runtime, Tensor gradient, DType dtype) {
  if (gradient.dtype() == dtype) return gradient;
  Tensor cast = Tensor::empty(runtime.memory(), gradient.shape(), dtype);
  copy(runtime, gradient, cast);
  return cast;
}

void add_weight_gradient(BackwardContext& context, Pack& weight, const Tensor& dy, const Tensor& x) {
  GradientTarget dw = context.store.gradient(weight);
  matmul_weight_grad(context.runtime, dy, x, dw);
  context.store.contributed(weight);
}

void add_bias_gradient(BackwardContext& context, Pack& bias, const Tensor& dy) {
  GradientTarget db = context.store.gradient(bias);
  column_sums(context.runtime, dy, db);
  context.store.contributed(bias);
}

}  // namespace deepflow
