#include "kernels/ops/dropout.h"

#include "core/error.h"
#include "kernels/cpu/dropout.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/reuse.h"

#include <cmath>
#include <memory>
#include <utility>

namespace deepflow {
namespace {

struct Mask {
  RandomSite site;
  float p;
  Tensor row_ids;
};

template <class T>
void apply_rows(Runtime& runtime, const Mask& mask, const T* x, Tensor& y) {
  auto* kernel = DF_KERNEL(runtime.isa(), dropout<T>);
  const auto threshold = static_cast<uint32_t>(std::lround(static_cast<double>(mask.p) * 0x1p24));
  const cpu::DropoutRows<T> rows{
      x,         y.data<T>(),     y.cols(), mask.row_ids.data<int64_t>(), mask.site.key, mask.site.step,
      threshold, 1 / (1 - mask.p)};
  runtime.pool().parallel_for(y.rows(), 1, [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
}

// x: the bytes of a tensor like y.
void apply(Runtime& runtime, const Mask& mask, const void* x, Tensor& y) {
  with_compute_type(y.dtype(), [&](auto t) { apply_rows(runtime, mask, static_cast<const decltype(t)*>(x), y); });
}

class DropoutNode final : public Node {
 public:
  explicit DropoutNode(Mask mask) : mask_(std::move(mask)) {}
  const char* name() const override { return "dropout"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor& dy = out[0].value;
    DF_ASSERT(dy.is_contiguous());
    const void* bytes = dy.raw();
    Tensor dx = reuse_or_empty(context.runtime.memory(), dy);
    apply(context.runtime, mask_, bytes, dx);
    mask_.row_ids = {};
    return {Grad{std::move(dx), nullptr}};
  }

 private:
  Mask mask_;
};

}  // namespace

Var dropout(ForwardContext& context, const Var& x, float p, std::string_view site) {
  DF_ASSERT(0 <= p && p < 1, "p is {}", p);
  if (!context.training || p == 0) return x;
  DF_ASSERT(x.value.is_contiguous() && context.rows.residual_row_ids().num_elements() == x.value.rows());
  Mask mask{context.random(site), p, context.rows.residual_row_ids()};
  Tensor y = context.empty(x.value.shape(), x.value.dtype());
  apply(context.runtime, mask, x.value.raw(), y);
  if (!context.tape) return {std::move(y)};
  return context.tape->record(std::make_unique<DropoutNode>(std::move(mask)), std::span(&x, 1), std::move(y));
}

}  // namespace deepflow
