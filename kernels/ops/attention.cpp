#include "kernels/ops/attention.h"

#include "kernels/ops/attention_groups.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/reuse.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

template <class T>
void forward_groups(Runtime& runtime, const AttentionShape& shape, const RowInfo& rows, const Tensor& qkv, Tensor& o,
                    Tensor& lse, std::span<float> largest) {
  auto* kernel = DF_KERNEL(runtime.isa(), attention_forward<T>);
  auto* scratch_bytes = DF_KERNEL(runtime.isa(), attention_forward_scratch<T>);
  const AttentionTasks tasks(runtime, rows.batch, shape.kv_heads, max_parts(rows));
  const auto group = [&](int64_t i) {
    return attention_group<T>(shape, rows, qkv, o, lse.data<float>(), i / shape.kv_heads, i % shape.kv_heads);
  };
  const AttentionScratch scratch(runtime, runtime.pool().size(), scratch_bytes(group(0)));
  LargestScores scores(tasks, shape.heads / shape.kv_heads, !largest.empty());
  tasks.run(runtime, [&](int thread, int64_t i, int64_t part) {
    auto a = group(i);
    a.largest = scores.place(i, part);
    kernel(a, part, tasks.parts, scratch.piece(thread));
  });
  scores.raise(largest);
}

template <class T>
void backward_groups(Runtime& runtime, const AttentionShape& shape, const RowInfo& rows, const Tensor& qkv, Tensor& o,
                     Tensor& lse, const Tensor& d_o, Tensor& dqkv) {
  using Gradients = cpu::AttentionGradients<T>;
  auto* kernel = DF_KERNEL(runtime.isa(), attention_backward<Gradients>);
  auto* finish = DF_KERNEL(runtime.isa(), attention_backward_finish<Gradients>);
  auto* scratch_bytes = DF_KERNEL(runtime.isa(), attention_backward_scratch<T>);
  const AttentionTasks tasks(runtime, rows.batch, shape.kv_heads, max_parts(rows));
  const auto group = [&](int64_t i) {
    return attention_group<T>(shape, rows, qkv, o, lse.data<float>(), i / shape.kv_heads, i % shape.kv_heads);
  };
  const auto gradients = [&](int64_t i) {
    Tensor unused = d_o;
    const auto at = attention_group<T>(shape, rows, dqkv, unused, nullptr, i / shape.kv_heads, i % shape.kv_heads);
    return Gradients{at.o,     const_cast<T*>(at.q), const_cast<T*>(at.k), const_cast<T*>(at.v), d_o.ld(), dqkv.ld(),
                     dqkv.ld()};
  };
  const bool shared = tasks.parts > 1;
  const AttentionScratch scratch(runtime, shared ? tasks.groups * tasks.parts : runtime.pool().size(),
                                 scratch_bytes(group(0), tasks.parts));
  tasks.run(runtime, [&](int thread, int64_t i, int64_t part) {
    kernel(group(i), gradients(i), part, tasks.parts, scratch.piece(shared ? i * tasks.parts + part : thread));
  });
  if (!shared) return;
  const int64_t heads = shape.heads / shape.kv_heads;
  runtime.pool().parallel_for_dynamic(tasks.groups * heads, [&](int64_t i) {
    finish(group(i / heads), gradients(i / heads), i % heads, tasks.parts, scratch.piece(i / heads * tasks.parts),
           scratch.stride);
  });
}

class AttentionNode final : public Node {
 public:
  AttentionNode(const AttentionShape& shape, RowInfo rows, Tensor qkv, Tensor o, Tensor lse)
      : shape_(shape), rows_(std::move(rows)), qkv_(std::move(qkv)), o_(std::move(o)), lse_(std::move(lse)) {}
  const char* name() const override { return "attention"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    // A group reads only what it overwrites itself, after its last reading: the gradient may take the place of qkv.
    const Tensor qkv = Tensor::wrap(qkv_.raw(), qkv_.shape(), qkv_.dtype());
    Tensor dqkv = reuse_or_empty(context.runtime.memory(), qkv_);
    if (rows_.rows() > 0)
      with_compute_type(qkv.dtype(), [&](auto t) {
        backward_groups<decltype(t)>(context.runtime, shape_, rows_, qkv, o_, lse_, out[0].value, dqkv);
      });
    qkv_ = o_ = lse_ = {};
    rows_ = {};
    return {Grad{std::move(dqkv), nullptr}};
  }

 private:
  AttentionShape shape_;
  RowInfo rows_;
  Tensor qkv_, o_, lse_;
};

}  // namespace

Var attention(ForwardContext& context, const Var& qkv, const AttentionShape& shape, std::span<float> largest) {
  const RowInfo& rows = context.rows;
  check_attention(context, qkv.value, shape.qkv_width(), shape, 0);
  DF_ASSERT(largest.empty() || std::ssize(largest) == shape.heads, "{} places for {} heads", largest.size(),
            shape.heads);
  Tensor o = context.empty({rows.rows(), shape.out_width()}, context.compute);
  Tensor lse = context.empty({rows.batch, shape.heads, rows.sequence}, DType::kF32);
  if (rows.rows() > 0)
    with_compute_type(context.compute, [&](auto t) {
      forward_groups<decltype(t)>(context.runtime, shape, rows, qkv.value, o, lse, largest);
    });
  if (!context.tape) return {std::move(o)};
  auto node = std::make_unique<AttentionNode>(shape, rows, qkv.value, o, std::move(lse));
  return context.tape->record(std::move(node), std::span(&qkv, 1), std::move(o));
}

void check_attention(const ForwardContext& context, const Tensor& qkv, int64_t qkv_width, const AttentionShape& shape,
                     int64_t past) {
  const RowInfo& rows = context.rows;
  DF_ASSERT(shape.heads % shape.kv_heads == 0 && shape.head_dim % 2 == 0 && shape.value_columns() % 2 == 0,
            "{} heads, {} key heads, head_dim {}, value_dim {}", shape.heads, shape.kv_heads, shape.head_dim,
            shape.value_columns());
  DF_ASSERT(qkv.rows() == rows.rows() && qkv.cols() == qkv_width, "qkv {} for {} rows of {} columns",
            qkv.shape().to_string(), rows.rows(), qkv_width);
  DF_ASSERT(qkv.dtype() == context.compute && qkv.is_contiguous());
  if (!rows.document_start.defined()) return;
  const int32_t* start = rows.document_start.data<int32_t>();
  for (int64_t row = 0; row < rows.rows(); ++row)
    DF_ASSERT(0 <= start[row] && start[row] <= past + row % rows.sequence, "row {} starts at {}", row, start[row]);
}

}  // namespace deepflow
