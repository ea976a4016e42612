#include "kernels/ops/group_rms_norm.h"

#include "core/error.h"
#include "kernels/cpu/group_rms_norm.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/vector_gradient.h"

#include <memory>
#include <numeric>
#include <utility>

namespace deepflow {
namespace {

struct GroupNorm {
  NormGroups groups;
  float eps, gain_offset;

  int64_t columns() const {
    return groups.width * std::accumulate(groups.groups.begin(), groups.groups.end(), int64_t{0});
  }
  // f(entry, first column, number of runs) of every entry.
  template <class F>
  void for_each_entry(F&& f) const {
    int64_t column = 0;
    for (size_t i = 0; i < groups.groups.size(); ++i) {
      f(static_cast<int64_t>(i), column, groups.groups[i]);
      column += groups.groups[i] * groups.width;
    }
  }
};

// kept may be undefined.
template <class T>
void forward_rows(Runtime& runtime, const GroupNorm& norm, const Tensor& x, const Tensor& gain, Tensor& y,
                  Tensor& kept) {
  auto* kernel = DF_KERNEL(runtime.isa(), group_rms_norm_forward<T>);
  const int64_t ld_kept = kept.defined() ? kept.ld() : 0;
  runtime.pool().parallel_for(x.rows(), 1, [&](int64_t begin, int64_t end) {
    norm.for_each_entry([&](int64_t i, int64_t column, int64_t runs) {
      kernel({x.data<T>() + column, y.data<T>() + column, kept.defined() ? kept.data<T>() + column : nullptr, x.ld(),
              y.ld(), ld_kept, gain.data<float>() + i * norm.groups.width, norm.gain_offset, norm.eps, runs,
              norm.groups.width},
             begin, end);
    });
  });
}

// dy becomes dx. parts: [threads, entries * width].
template <class T>
void backward_rows(Runtime& runtime, const GroupNorm& norm, const Tensor& x, const Tensor& gain, Tensor& dy,
                   Tensor& parts) {
  auto* kernel = DF_KERNEL(runtime.isa(), group_rms_norm_backward<T>);
  const int64_t width = norm.groups.width, rows = dy.rows();
  runtime.pool().run([&](int thread, int threads) {
    float* part = parts.data<float>() + thread * parts.cols();
    norm.for_each_entry([&](int64_t i, int64_t column, int64_t runs) {
      T* d = dy.data<T>() + column;
      kernel({x.data<T>() + column, d, d, x.ld(), dy.ld(), dy.ld(), gain.data<float>() + i * width, norm.gain_offset,
              norm.eps, runs, width, part + i * width},
             rows * thread / threads, rows * (thread + 1) / threads);
    });
  });
}

class GroupNormNode final : public Node {
 public:
  GroupNormNode(GroupNorm norm, Tensor x, Pack& gain) : norm_(std::move(norm)), x_(std::move(x)), gain_(gain) {}
  const char* name() const override { return "group_rms_norm"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    Tensor gradient = owned_copy(runtime, std::move(out[0].value));
    Tensor parts = Tensor::empty(runtime.memory(), {runtime.pool().size(), gain_.cols}, DType::kF32);
    const Tensor gain = context.store.acquire(gain_, Form::kMaster, context.stream);
    with_compute_type(gradient.dtype(),
                      [&](auto t) { backward_rows<decltype(t)>(runtime, norm_, x_, gain, gradient, parts); });
    context.store.release(gain_);
    gain_gradient_ = Tensor::empty(runtime.memory(), {gain_.cols}, DType::kF32);
    add_parts(runtime, parts, gain_gradient_);
    x_ = {};
    return {Grad{std::move(gradient), nullptr}};
  }

  void backward_weight(BackwardContext& context) override {
    contribute_vector(context, gain_, gain_gradient_.data<float>(), gain_.cols);
  }

 private:
  GroupNorm norm_;
  Tensor x_;
  Pack& gain_;
  Tensor gain_gradient_;  // between the two halves of backward
};

}  // namespace

Var group_rms_norm(ForwardContext& context, const Var& x, Pack& gain, NormGroups groups, float eps, float gain_offset) {
  const GroupNorm norm{std::move(groups), eps, gain_offset};
  const int64_t rows = x.value.rows(), normed = norm.columns();
  DF_ASSERT(x.value.is_contiguous() && x.value.dtype() == context.compute && normed <= x.value.cols(),
            "{} columns of {}", normed, x.value.shape().to_string());
  DF_ASSERT(gain.cols == norm.groups.width * static_cast<int64_t>(norm.groups.groups.size()), "gain {} for {} x {}",
            gain.cols, norm.groups.groups.size(), norm.groups.width);
  const bool in_place = normed < x.value.cols();
  Tensor y = in_place ? x.value : context.empty(x.value.shape(), context.compute);
  Tensor kept = in_place && context.tape ? context.empty({rows, normed}, context.compute) : Tensor();
  const Tensor values = context.store.acquire(gain, Form::kMaster, context.stream);
  with_compute_type(context.compute,
                    [&](auto t) { forward_rows<decltype(t)>(context.runtime, norm, x.value, values, y, kept); });
  context.store.release(gain);
  if (!context.tape) return {std::move(y)};
  auto node = std::make_unique<GroupNormNode>(norm, in_place ? std::move(kept) : x.value, gain);
  return context.tape->record(std::move(node), std::span(&x, 1), std::move(y));
}

}  // namespace deepflow
