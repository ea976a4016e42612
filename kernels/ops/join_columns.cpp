#include "kernels/ops/join_columns.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

class JoinColumnsNode final : public Node {
 public:
  explicit JoinColumnsNode(int64_t first) : first_(first) {}
  const char* name() const override { return "join_columns"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const Tensor& whole = out[0].value;
    std::vector<Grad> grads;
    for (const Tensor& part : {whole.column_range(0, first_), whole.column_range(first_, whole.cols())}) {
      Tensor gradient = Tensor::empty(context.runtime.memory(), part.shape(), part.dtype());
      copy(context.runtime, part, gradient);
      grads.push_back({std::move(gradient), nullptr});
    }
    return grads;
  }

 private:
  int64_t first_;  // columns of a
};

}  // namespace

Var join_columns(ForwardContext& context, const Var& a, const Var& b) {
  const int64_t first = a.value.cols(), both = first + b.value.cols();
  DF_ASSERT(a.value.rows() == b.value.rows() && a.value.dtype() == b.value.dtype(), "{} beside {}",
            a.value.shape().to_string(), b.value.shape().to_string());
  Tensor joined = context.empty({a.value.rows(), both}, a.value.dtype());
  Tensor left = joined.column_range(0, first), right = joined.column_range(first, both);
  copy(context.runtime, a.value, left);
  copy(context.runtime, b.value, right);
  if (!context.tape) return {std::move(joined)};
  const Var inputs[] = {a, b};
  return context.tape->record(std::make_unique<JoinColumnsNode>(first), inputs, std::move(joined));
}

}  // namespace deepflow
