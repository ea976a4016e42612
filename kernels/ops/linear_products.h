#pragma once

#include "core/context.h"

namespace deepflow {

// The products of `linear` with one weight, for it and for the ops that cut it over ranks (parallel/ops): forms and
// precision are chosen, operands checked and rounded, gradients written in one place. Rows may be multiplied part by
// part, in any order.

// y [M, out] = x [M, in] W^T (+ b). Holds the weight and the bias until destroyed.
class ForwardProduct {
 public:
  ForwardProduct(ForwardContext& context, Pack& weight, Pack* bias);
  ~ForwardProduct();
  ForwardProduct(const ForwardProduct&) = delete;
  ForwardProduct& operator=(const ForwardProduct&) = delete;
  void operator()(const Tensor& x, Tensor y, bool add_bias) const;

 private:
  Runtime& runtime_;
  ParameterStore& store_;
  Pack& weight_;
  Pack* bias_;
  bool int8_;
  Tensor packed_, bias_values_;
};

// dx [M, in] = dy [M, out] W. Holds the weight until destroyed.
class InputGradProduct {
 public:
  InputGradProduct(BackwardContext& context, Pack& weight, ProductPrecision products);
  ~InputGradProduct();
  InputGradProduct(const InputGradProduct&) = delete;
  InputGradProduct& operator=(const InputGradProduct&) = delete;
  void operator()(const Tensor& dy, Tensor dx) const;

 private:
  Runtime& runtime_;
  ParameterStore& store_;
  Pack& weight_;
  bool int8_;
  Tensor packed_;
};

// `gradient` in the dtype of the products.
Tensor as_operand(Runtime& runtime, Tensor gradient, DType dtype);
// dW (+)= dy^T x and db (+)= column sums of dy, and says that they have contributed.
void add_weight_gradient(BackwardContext& context, Pack& weight, const Tensor& dy, const Tensor& x);
void add_bias_gradient(BackwardContext& context, Pack& bias, const Tensor& dy);

}  // namespace deepflow
