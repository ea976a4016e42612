#include "kernels/ops/norm.h"

#include "core/error.h"
#include "kernels/cpu/layer_norm.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/reuse.h"
#include "kernels/ops/vector_gradient.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace deepflow {
namespace {

enum class NormKind : uint8_t { kRms, kLayer };

int64_t statistics_per_row(NormKind kind) { return kind == NormKind::kLayer ? 2 : 1; }

template <class T>
void forward_rows(Runtime& runtime, NormKind kind, const cpu::NormForward<T>& rows, int64_t num_rows) {
  auto* kernel = kind == NormKind::kLayer ? DF_KERNEL(runtime.isa(), layer_norm_forward<T>)
                                          : DF_KERNEL(runtime.isa(), rms_norm_forward<T>);
  runtime.pool().parallel_for(num_rows, 1, [&](int64_t begin, int64_t end) { kernel(rows, begin, end); });
}

// partial: [threads, vectors, cols], one part a thread.
template <class T>
void backward_rows(Runtime& runtime, NormKind kind, const cpu::NormBackward<T>& rows, int64_t num_rows,
                   Tensor& partial) {
  auto* kernel = kind == NormKind::kLayer ? DF_KERNEL(runtime.isa(), layer_norm_backward<T>)
                                          : DF_KERNEL(runtime.isa(), rms_norm_backward<T>);
  float* parts = partial.data<float>();
  runtime.pool().run([&](int thread, int threads) {
    cpu::NormBackward<T> mine = rows;
    mine.partial = parts + thread * partial.cols();
    kernel(mine, num_rows * thread / threads, num_rows * (thread + 1) / threads);
  });
}

class NormNode final : public Node {
 public:
  NormNode(NormKind kind, Tensor residual, Tensor statistics, DType compute, bool has_delta, Pack& gain, Pack* bias,
           float gain_offset)
      : kind_(kind),
        residual_(std::move(residual)),
        statistics_(std::move(statistics)),
        compute_(compute),
        has_delta_(has_delta),
        gain_(gain),
        bias_(bias),
        gain_offset_(gain_offset) {}

  const char* name() const override { return kind_ == NormKind::kLayer ? "layer_norm" : "rms_norm"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    return with_compute_type(compute_, [&](auto t) { return input_gradients<decltype(t)>(context, out); });
  }

  void backward_weight(BackwardContext& context) override {
    const int64_t n = gain_.cols;
    contribute_vector(context, gain_, parameter_grads_.data<float>(), n);
    if (bias_) contribute_vector(context, *bias_, parameter_grads_.data<float>() + n, n);
  }

 private:
  template <class T>
  std::vector<Grad> input_gradients(BackwardContext& context, std::span<Grad> out) {
    Runtime& runtime = context.runtime;
    Tensor dr = std::move(out[0].value), dy = std::move(out[1].value);
    if (!dy.defined()) {  // only the residual was used
      dy = Tensor::empty(runtime.memory(), residual_.shape(), compute_);
      std::fill_n(dy.data<T>(), dy.num_elements(), T{});
    }
    DF_ASSERT(dy.is_contiguous() && (!dr.defined() || dr.is_contiguous()));
    const float* dr_data = dr.defined() ? dr.data<float>() : nullptr;
    const T* dy_data = dy.data<T>();
    Tensor dx = dr.defined() ? reuse_or_empty(runtime.memory(), dr)
                             : Tensor::empty(runtime.memory(), residual_.shape(), DType::kF32);
    Tensor ddelta;
    if (has_delta_) ddelta = reuse_or_empty(runtime.memory(), dy);

    const int64_t cols = residual_.cols(), vectors = kind_ == NormKind::kLayer ? 2 : 1;
    Tensor partial = Tensor::empty(runtime.memory(), {runtime.pool().size(), vectors * cols}, DType::kF32);
    const Tensor gain = context.store.acquire(gain_, Form::kMaster, context.stream);
    const cpu::NormBackward<T> rows{residual_.data<float>(),
                                    dy_data,
                                    dr_data,
                                    gain.data<float>(),
                                    statistics_.data<float>(),
                                    cols,
                                    dx.data<float>(),
                                    has_delta_ ? ddelta.data<T>() : nullptr,
                                    nullptr,
                                    gain_offset_};
    backward_rows(runtime, kind_, rows, residual_.rows(), partial);
    context.store.release(gain_);
    parameter_grads_ = Tensor::empty(runtime.memory(), {vectors * cols}, DType::kF32);
    add_parts(runtime, partial, parameter_grads_);
    residual_ = statistics_ = {};

    std::vector<Grad> grads;
    grads.push_back({std::move(dx), nullptr});
    if (has_delta_) grads.push_back({std::move(ddelta), nullptr});
    return grads;
  }

  NormKind kind_;
  Tensor residual_, statistics_;
  DType compute_;
  bool has_delta_;
  Pack& gain_;
  Pack* bias_;
  float gain_offset_;
  Tensor parameter_grads_;  // between the two halves of backward: dgain, then dbias
};

// What norms a row; bias may be undefined.
struct Affine {
  NormKind kind;
  Tensor gain, bias;
  float eps, gain_offset;
};

// delta may be undefined: r is x.
template <class T>
void run_forward_as(Runtime& runtime, const Affine& affine, const Tensor& x, const Tensor& delta, Tensor& r, Tensor& y,
                    Tensor& statistics) {
  const cpu::NormForward<T> rows{x.data<float>(),
                                 delta.defined() ? delta.data<T>() : nullptr,
                                 affine.gain.data<float>(),
                                 affine.bias.defined() ? affine.bias.data<float>() : nullptr,
                                 affine.eps,
                                 x.cols(),
                                 r.data<float>(),
                                 y.data<T>(),
                                 statistics.data<float>(),
                                 affine.gain_offset};
  forward_rows(runtime, affine.kind, rows, x.rows());
}

void run_forward(Runtime& runtime, const Affine& affine, const Tensor& x, const Tensor& delta, Tensor& r, Tensor& y,
                 Tensor& statistics) {
  with_compute_type(y.dtype(),
                    [&](auto t) { run_forward_as<decltype(t)>(runtime, affine, x, delta, r, y, statistics); });
}

// Norms the kept residual again. It has copies of gain and bias, a row each, so that the weight-gradient half of
// backward, which may run it, reads no parameters.
class NormAgain final : public Rematerial {
 public:
  NormAgain(Runtime& runtime, const Affine& affine, Tensor residual, DType compute)
      : affine_(affine), residual_(std::move(residual)), compute_(compute) {
    for (Tensor* vector : {&affine_.gain, &affine_.bias}) {
      if (!vector->defined()) continue;
      Tensor copied = Tensor::empty(runtime.memory(), vector->shape(), DType::kF32);
      copy(runtime, *vector, copied);
      *vector = std::move(copied);
    }
  }

  Tensor make(Runtime& runtime) const override {
    const Shape shape{residual_.rows(), residual_.cols()};
    Tensor y = Tensor::empty(runtime.memory(), shape, compute_), residual = residual_;
    Tensor statistics = Tensor::empty(runtime.memory(), {shape.rows(), statistics_per_row(affine_.kind)}, DType::kF32);
    run_forward(runtime, affine_, residual_, {}, residual, y, statistics);
    return y;
  }

 private:
  Affine affine_;
  Tensor residual_;
  DType compute_;
};

NormResult norm(ForwardContext& context, NormKind kind, const Var& x, const std::optional<Var>& delta, Pack& gain,
                Pack* bias, float eps, float gain_offset) {
  const int64_t rows = x.value.rows(), cols = x.value.cols();
  DF_ASSERT(gain.cols == cols && (!bias || bias->cols == cols), "{} columns, gain {}", cols, gain.cols);
  DF_ASSERT(x.value.is_contiguous());
  if (delta)
    DF_ASSERT(delta->value.is_contiguous() && delta->value.rows() == rows && delta->value.cols() == cols &&
              delta->value.dtype() == context.compute);
  Tensor r = delta ? context.empty({rows, cols}, DType::kF32) : x.value;
  Tensor y = context.empty({rows, cols}, context.compute);
  Tensor statistics = context.empty({rows, statistics_per_row(kind)}, DType::kF32);

  const Affine affine{kind, context.store.acquire(gain, Form::kMaster, context.stream),
                      bias ? context.store.acquire(*bias, Form::kMaster, context.stream) : Tensor(), eps, gain_offset};
  run_forward(context.runtime, affine, x.value, delta ? delta->value : Tensor(), r, y, statistics);
  std::shared_ptr<const Rematerial> recipe;
  if (context.tape && context.selective)
    recipe = std::make_shared<NormAgain>(context.runtime, affine, r, context.compute);
  context.store.release(gain);
  if (bias) context.store.release(*bias);

  if (!context.tape) return {{std::move(r)}, {std::move(y)}};
  std::vector<Var> inputs = {x};
  if (delta) inputs.push_back(*delta);
  auto node = std::make_unique<NormNode>(kind, r, std::move(statistics), context.compute, delta.has_value(), gain, bias,
                                         gain_offset);
  std::vector<Var> outputs = context.tape->record(std::move(node), inputs, std::vector<Tensor>{r, y});
  outputs[1].recipe = std::move(recipe);
  return {std::move(outputs[0]), std::move(outputs[1])};
}

}  // namespace

NormResult rms_norm(ForwardContext& context, const Var& x, const std::optional<Var>& delta, Pack& gain, float eps,
                    float gain_offset) {
  return norm(context, NormKind::kRms, x, delta, gain, nullptr, eps, gain_offset);
}

NormResult layer_norm(ForwardContext& context, const Var& x, const std::optional<Var>& delta, Pack& gain, Pack* bias,
                      float eps) {
  return norm(context, NormKind::kLayer, x, delta, gain, bias, eps, 0);
}

}  // namespace deepflow
