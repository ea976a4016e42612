#include "kernels/ops/activation.h"

#include "core/error.h"
#include "kernels/cpu/gelu.h"
#include "kernels/cpu/swiglu.h"
#include "kernels/ops/reuse.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

constexpr int64_t kGrain = 4096;  // elements; a multiple of every vector width

template <class T>
void gelu_forward(Runtime& runtime, GeluKind kind, const Tensor& u, Tensor& y) {
  auto* kernel = kind == GeluKind::kExact ? DF_KERNEL(runtime.isa(), gelu_exact_forward<T>)
                                          : DF_KERNEL(runtime.isa(), gelu_tanh_forward<T>);
  const T* in = u.data<T>();
  T* out = y.data<T>();
  runtime.pool().parallel_for(u.num_elements(), kGrain,
                              [&](int64_t begin, int64_t end) { kernel(in + begin, out + begin, end - begin); });
}

template <class T>
void gelu_backward(Runtime& runtime, GeluKind kind, const Tensor& u, const T* dy, Tensor& du) {
  auto* kernel = kind == GeluKind::kExact ? DF_KERNEL(runtime.isa(), gelu_exact_backward<T>)
                                          : DF_KERNEL(runtime.isa(), gelu_tanh_backward<T>);
  const T* in = u.data<T>();
  T* out = du.data<T>();
  runtime.pool().parallel_for(u.num_elements(), kGrain, [&](int64_t begin, int64_t end) {
    kernel(in + begin, dy + begin, out + begin, end - begin);
  });
}

class GeluNode final : public Node {
 public:
  GeluNode(Tensor u, GeluKind kind) : u_(std::move(u)), kind_(kind) {}
  const char* name() const override { return "gelu"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return u_.dtype() == DType::kBF16 ? input_gradient<BF16>(context.runtime, out[0].value)
                                      : input_gradient<float>(context.runtime, out[0].value);
  }

 private:
  template <class T>
  std::vector<Grad> input_gradient(Runtime& runtime, Tensor& dy) {
    DF_ASSERT(dy.is_contiguous());
    const T* dy_data = dy.data<T>();
    Tensor du = reuse_or_empty(runtime.memory(), dy);
    gelu_backward<T>(runtime, kind_, u_, dy_data, du);
    u_ = {};
    return {Grad{std::move(du), nullptr}};
  }

  Tensor u_;
  GeluKind kind_;
};

template <class T>
void swiglu_forward(Runtime& runtime, const Tensor& gate_up, Tensor& y) {
  auto* kernel = DF_KERNEL(runtime.isa(), swiglu_forward<T>);
  const T* in = gate_up.data<T>();
  T* out = y.data<T>();
  runtime.pool().parallel_for(y.rows(), 1, [&](int64_t begin, int64_t end) { kernel(in, out, y.cols(), begin, end); });
}

class SwigluNode final : public Node {
 public:
  explicit SwigluNode(Tensor gate_up) : gate_up_(std::move(gate_up)) {}
  const char* name() const override { return "swiglu"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return gate_up_.dtype() == DType::kBF16 ? input_gradient<BF16>(context.runtime, out[0].value)
                                            : input_gradient<float>(context.runtime, out[0].value);
  }

 private:
  template <class T>
  std::vector<Grad> input_gradient(Runtime& runtime, const Tensor& dy) {
    DF_ASSERT(dy.is_contiguous());
    auto* kernel = DF_KERNEL(runtime.isa(), swiglu_backward<T>);
    const T *in = gate_up_.data<T>(), *dy_data = dy.data<T>();
    Tensor dgate_up = reuse_or_empty(runtime.memory(), gate_up_);
    T* d = dgate_up.data<T>();
    runtime.pool().parallel_for(dy.rows(), 1,
                                [&](int64_t begin, int64_t end) { kernel(in, dy_data, d, dy.cols(), begin, end); });
    gate_up_ = {};
    return {Grad{std::move(dgate_up), nullptr}};
  }

  Tensor gate_up_;
};

}  // namespace

Var gelu(ForwardContext& context, const Var& u, GeluKind kind) {
  DF_ASSERT(u.value.is_contiguous() && u.value.dtype() == context.compute);
  Tensor y = context.empty(u.value.shape(), context.compute);
  if (context.compute == DType::kBF16)
    gelu_forward<BF16>(context.runtime, kind, u.value, y);
  else
    gelu_forward<float>(context.runtime, kind, u.value, y);
  if (!context.tape) return {std::move(y)};
  return context.tape->record(std::make_unique<GeluNode>(u.value, kind), std::span(&u, 1), std::move(y));
}

Var swiglu(ForwardContext& context, const Var& gate_up) {
  DF_ASSERT(gate_up.value.is_contiguous() && gate_up.value.cols() % 2 == 0 && gate_up.value.dtype() == context.compute);
  Tensor y = context.empty({gate_up.value.rows(), gate_up.value.cols() / 2}, context.compute);
  if (context.compute == DType::kBF16)
    swiglu_forward<BF16>(context.runtime, gate_up.value, y);
  else
    swiglu_forward<float>(context.runtime, gate_up.value, y);
  if (!context.tape) return {std::move(y)};
  return context.tape->record(std::make_unique<SwigluNode>(gate_up.value), std::span(&gate_up, 1), std::move(y));
}

}  // namespace deepflow
