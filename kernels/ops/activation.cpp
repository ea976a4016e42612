#include "kernels/ops/activation.h"

#include "core/error.h"
#include "kernels/cpu/geglu.h"
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

enum class GateKind : uint8_t { kSilu, kGeluTanh };

template <class T>
void gated_forward(Runtime& runtime, GateKind kind, const Tensor& gate_up, Tensor& y) {
  auto* kernel = kind == GateKind::kSilu ? DF_KERNEL(runtime.isa(), swiglu_forward<T>)
                                         : DF_KERNEL(runtime.isa(), geglu_forward<T>);
  const T* in = gate_up.data<T>();
  T* out = y.data<T>();
  runtime.pool().parallel_for(y.rows(), 1, [&](int64_t begin, int64_t end) { kernel(in, out, y.cols(), begin, end); });
}

Tensor gated_of(Runtime& runtime, GateKind kind, const Tensor& gate_up) {
  Tensor y = Tensor::empty(runtime.memory(), {gate_up.rows(), gate_up.cols() / 2}, gate_up.dtype());
  with_compute_type(gate_up.dtype(), [&](auto t) { gated_forward<decltype(t)>(runtime, kind, gate_up, y); });
  return y;
}

class GatedAgain final : public Rematerial {
 public:
  GatedAgain(Tensor gate_up, GateKind kind) : gate_up_(std::move(gate_up)), kind_(kind) {}
  Tensor make(Runtime& runtime) const override { return gated_of(runtime, kind_, gate_up_); }

 private:
  Tensor gate_up_;
  GateKind kind_;
};

class GatedNode final : public Node {
 public:
  GatedNode(Tensor gate_up, GateKind kind) : gate_up_(std::move(gate_up)), kind_(kind) {}
  const char* name() const override { return kind_ == GateKind::kSilu ? "swiglu" : "geglu"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return with_compute_type(gate_up_.dtype(),
                             [&](auto t) { return input_gradient<decltype(t)>(context.runtime, out[0].value); });
  }

 private:
  template <class T>
  std::vector<Grad> input_gradient(Runtime& runtime, const Tensor& dy) {
    DF_ASSERT(dy.is_contiguous());
    auto* kernel = kind_ == GateKind::kSilu ? DF_KERNEL(runtime.isa(), swiglu_backward<T>)
                                            : DF_KERNEL(runtime.isa(), geglu_backward<T>);
    const T *in = gate_up_.data<T>(), *dy_data = dy.data<T>();
    Tensor dgate_up = reuse_or_empty(runtime.memory(), gate_up_);
    T* d = dgate_up.data<T>();
    runtime.pool().parallel_for(dy.rows(), 1,
                                [&](int64_t begin, int64_t end) { kernel(in, dy_data, d, dy.cols(), begin, end); });
    gate_up_ = {};
    return {Grad{std::move(dgate_up), nullptr}};
  }

  Tensor gate_up_;
  GateKind kind_;
};

Var gated(ForwardContext& context, const Var& gate_up, GateKind kind) {
  DF_ASSERT(gate_up.value.is_contiguous() && gate_up.value.cols() % 2 == 0 && gate_up.value.dtype() == context.compute);
  Tensor y = gated_of(context.runtime, kind, gate_up.value);
  if (!context.tape) return {std::move(y)};
  Var result =
      context.tape->record(std::make_unique<GatedNode>(gate_up.value, kind), std::span(&gate_up, 1), std::move(y));
  if (context.selective) result.recipe = std::make_shared<GatedAgain>(gate_up.value, kind);
  return result;
}

}  // namespace

Var gelu(ForwardContext& context, const Var& u, GeluKind kind) {
  DF_ASSERT(u.value.is_contiguous() && u.value.dtype() == context.compute);
  Tensor y = gelu_of(context.runtime, kind, u.value);
  if (!context.tape) return {std::move(y)};
  Var result = context.tape->record(std::make_unique<GeluNode>(u.value, kind), std::span(&u, 1), std::move(y));
  if (context.selective) result.recipe = std::make_shared<GeluAgain>(u.value, kind);
  return result;
}

Var swiglu(ForwardContext& context, const Var& gate_up) { return gated(context, gate_up, GateKind::kSilu); }

Var geglu(ForwardContext& context, const Var& gate_up) { return gated(context, gate_up, GateKind::kGeluTanh); }

}  // namespace deepflow
