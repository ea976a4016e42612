#include "kernels/ops/scaled.h"

#include "kernels/ops/elementwise.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

class ScaledNode final : public Node {
 public:
  explicit ScaledNode(float factor) : factor_(factor) {}
  const char* name() const override { return "scaled"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor gradient = owned_copy(context.runtime, std::move(out[0].value));
    scale(context.runtime, gradient, factor_);
    return {Grad{std::move(gradient), nullptr}};
  }

 private:
  float factor_;
};

}  // namespace

Var scaled(ForwardContext& context, const Var& x, float factor) {
  Tensor y = x.value;
  scale(context.runtime, y, factor);
  if (!context.tape) return {std::move(y)};
  return context.tape->record(std::make_unique<ScaledNode>(factor), std::span(&x, 1), std::move(y));
}

}  // namespace deepflow
