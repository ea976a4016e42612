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

}  // namespace

Var add_residual(ForwardContext& context, const Var& x, const Var& delta) {
  Tensor r = context.empty(x.value.shape(), DType::kF32);
  copy(context.runtime, x.value, r);
  add_into(context.runtime, r, delta.value);
  if (!context.tape) return {std::move(r)};
  const Var inputs[] = {x, delta};
  return context.tape->record(std::make_unique<AddResidualNode>(delta.value.dtype()), inputs, std::move(r));
}

}  // namespace deepflow
