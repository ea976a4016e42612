#include "kernels/ops/activation.h"

#include "core/error.h"
#include "kernels/cpu/gelu.h"
#include "kernels/cpu/swiglu.h"
#include "kernels/ops/compute_type.h"
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

Tensor gelu_of(Runtime& runtime, GeluKind kind, const Tensor& u) {
  Tensor y = Tensor::empty(runtime.memory(), u.shape(), u.dtype());
  with_compute_type(u.dtype(), [&](auto t) { gelu_forward<decltype(t)>(runtime, kind, u, y); });
  return y;
}

class GeluAgain final : public Rematerial {
 public:
  GeluAgain(Tensor u, GeluKind kind) : u_(std::move(u)), kind_(kind) {}
  Tensor make(Runtime& runtime) const override { return gelu_of(runtime, kind_, u_); }

 private:
  Tensor u_;
  GeluKind kind_;
};

class GeluNode final : public Node {
 public:
  GeluNode(Tensor u, GeluKind kind) : u_(std::move(u)), kind_(kind) {}
  const char* name() const override { return "gelu"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return with_compute_type(u_.dtype(),
                             [&](auto t) { return input_gradient<decltype(t)>(context.runtime, out[0].value); });
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

Tensor swiglu_of(Runtime& runtime, const Tensor& gate_up) {
  Tensor y = Tensor::empty(runtime.memory(), {gate_up.rows(), gate_up.cols() / 2}, gate_up.dtype());
  with_compute_type(gate_up.dtype(), [&](auto t) { swiglu_forward<decltype(t)>(runtime, gate_up, y); });
  return y;
}

class SwigluAgain final : public Rematerial {
 public:
  explicit SwigluAgain(Tensor gate_up) : gate_up_(std::move(gate_up)) {}
  Tensor make(Runtime& runtime) const override { return swiglu_of(runtime, gate_up_); }

 private:
  Tensor gate_up_;
};

class SwigluNode final : public Node {
 public:
  explicit SwigluNode(Tensor gate_up) : gate_up_(std::move(gate_up)) {}
  const char* name() const override { return "swiglu"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return with_compute_type(gate_up_.dtype(),
                             [&](auto t) { return input_gradient<decltype(t)>(context.runtime, out[0].value); });
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
  Tensor y = gelu_of(context.runtime, kind, u.value);
  if (!context.tape) return {std::move(y)};
  Var result = context.tape->record(std::make_unique<GeluNode>(u.value, kind), std::span(&u, 1), std::move(y));
  if (context.selective) result.recipe = std::make_shared<GeluAgain>(u.value, kind);
  return result;
}

Var swiglu(ForwardContext& context, const Var& gate_up) {
  DF_ASSERT(gate_up.value.is_contiguous() && gate_up.value.cols() % 2 == 0 && gate_up.value.dtype() == context.compute);
  Tensor y = swiglu_of(context.runtime, gate_up.value);
  if (!context.tape) return {std::move(y)};
  Var result = context.tape->record(std::make_unique<SwigluNode>(gate_up.value), std::span(&gate_up, 1), std::move(y));
  if (context.selective) result.recipe = std::make_shared<SwigluAgain>(gate_up.value);
  return result;
}

}  // namespace deepflow
