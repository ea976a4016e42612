#include "kernels/ops/residual.h"

#include "kernels/ops/elementwise.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

class AddResidualNode final : public Node {
 public:
  explicit AddResidualNode(DType delta) : delta_(delta) {}
  const char* name() const override { return "add_residual"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor delta = Tensor::empty(context.runtime.memory(), out[0].value.shape(), delta_);
    copy(context.runtime, out[0].value, delta);
    std::vector<Grad> grads;
    grads.push_back({std::move(out[0].value), nullptr});
    grads.push_back({std::move(delta), nullptr});
    return grads;
  }

 private:
  DType delta_;
};

class AsStreamNode final : public Node {
 public:
  explicit AsStreamNode(DType output) : output_(output) {}
  const char* name() const override { return "as_stream"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor gradient = Tensor::empty(context.runtime.memory(), out[0].value.shape(), output_);
    copy(context.runtime, out[0].value, gradient);
    return {Grad{std::move(gradient), nullptr}};
  }

 private:
  DType output_;
};

class AddOutputsNode final : public Node {
 public:
  const char* name() const override { return "add_outputs"; }
  std::vector<Grad> backward_input(BackwardContext&, std::span<Grad> out) override {
    return {{out[0].value, nullptr}, {out[0].value, nullptr}};
  }
};

}  // namespace

Var add_residual(ForwardContext& context, const Var& x, const Var& delta) {
  Tensor r = context.empty(x.value.shape(), DType::kF32);
  copy(context.runtime, x.value, r);
  add_into(context.runtime, r, delta.value);
  if (!context.tape) return {std::move(r)};
  const Var inputs[] = {x, delta};
  return context.tape->record(std::make_unique<AddResidualNode>(delta.value.dtype()), inputs, std::move(r));
}

Var add_outputs(ForwardContext& context, const Var& a, const Var& b) {
  Tensor sum = context.empty(a.value.shape(), a.value.dtype());
  copy(context.runtime, a.value, sum);
  add_into(context.runtime, sum, b.value);
  if (!context.tape) return {std::move(sum)};
  const Var inputs[] = {a, b};
  return context.tape->record(std::make_unique<AddOutputsNode>(), inputs, std::move(sum));
}

Var as_stream(ForwardContext& context, const Var& output) {
  if (output.value.dtype() == DType::kF32) return output;
  Tensor stream = context.empty(output.value.shape(), DType::kF32);
  copy(context.runtime, output.value, stream);
  if (!context.tape) return {std::move(stream)};
  return context.tape->record(std::make_unique<AsStreamNode>(output.value.dtype()), std::span(&output, 1),
                              std::move(stream));
}

}  // namespace deepflow
