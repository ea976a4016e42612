#include "kernels/ops/head_loss_rows.h"

#include "core/error.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/ops/compute_type.h"
#include "kernels/ops/matmul.h"

#include <algorithm>

namespace deepflow {

void head_products(Runtime& runtime, const Pack& head, const Tensor& packed, const Tensor& x, float softcap,
                   Tensor& logits) {
  matmul_forward(runtime, x, packed, head.physical_rows, nullptr, logits);
  if (softcap == 0) return;
  auto* soften = DF_KERNEL(runtime.isa(), soften);
  runtime.pool().parallel_for(logits.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) soften(logits.row_range(r, r + 1).raw(), logits.dtype(), head.rows, softcap);
  });
}

void check_labels(const HeadLabels& l, int64_t rows, int64_t vocabulary) {
  DF_ASSERT(l.labels.num_elements() == rows && l.weights.num_elements() == rows, "{} rows", rows);
  for (int64_t r = 0; r < rows; ++r)
    if (l.of(r) < -1 || l.of(r) >= vocabulary)
      throw DataError("label {} of row {} is not a token of a vocabulary of {} (-1 masks a row)", l.of(r), r,
                      vocabulary);
}

float logit_at(const Tensor& logits, int64_t row, int64_t column) {
  const int64_t i = row * logits.ld() + column;
  return with_compute_type(logits.dtype(), [&](auto t) { return to_float(logits.data<decltype(t)>()[i]); });
}

void cross_entropy_gradient(Runtime& runtime, Tensor& logits, const HeadLabels& labels, int64_t first,
                            const HeadColumns& columns, float seed, const float* log_sums, float softcap) {
  auto* gradient = DF_KERNEL(runtime.isa(), cross_entropy_gradient);
  runtime.pool().parallel_for(logits.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      Tensor row = logits.row_range(r, r + 1);
      const float weight = labels.weight(first + r);
      if (weight == 0)
        std::fill_n(static_cast<char*>(row.raw()), row.num_bytes(), char{0});
      else
        gradient(row.raw(), row.dtype(), columns.count, row.cols(), log_sums[r], labels.column(first + r, columns),
                 weight * seed, softcap);
    }
  });
}

Tensor total_loss(ForwardContext& context, const HeadLabels& labels, const Tensor& nll) {
  double sum = 0;
  for (int64_t r = 0; r < nll.num_elements(); ++r)
    if (const float weight = labels.weight(r); weight != 0)
      sum += static_cast<double>(weight) * static_cast<double>(nll.data<float>()[r]);
  Tensor loss = context.empty({1}, DType::kF32);
  loss.data<float>()[0] = static_cast<float>(sum);
  return loss;
}

Tensor head_input_gradient(BackwardContext& context, Pack& head, const Tensor& dlogits) {
  Tensor dx = Tensor::empty(context.runtime.memory(), {dlogits.rows(), head.cols}, dlogits.dtype());
  const Tensor packed = context.store.acquire(head, Form::kInputGrad, context.stream);
  matmul_input_grad(context.runtime, dlogits, packed, head.cols, dx);
  context.store.release(head);
  return dx;
}

Tensor recomputed_head_gradients(BackwardContext& context, Pack& head, const Tensor& x, const HeadLabels& labels,
                                 const HeadColumns& columns, float seed, const Tensor& log_sums, float softcap) {
  Runtime& runtime = context.runtime;
  const int64_t rows = x.rows(), chunk = std::min(rows, head_chunk_rows(x.dtype()));
  Tensor dx = Tensor::empty(runtime.memory(), {rows, x.cols()}, x.dtype());
  const Tensor buffer = Tensor::empty(runtime.memory(), {chunk, head.physical_rows}, x.dtype());
  GradientTarget dw = context.store.gradient(head);
  const Tensor forward = context.store.acquire(head, Form::kForward, context.stream);
  const Tensor input_grad = context.store.acquire(head, Form::kInputGrad, context.stream);
  if (rows == 0) matmul_weight_grad(runtime, buffer, x, dw);
  for (int64_t r = 0; r < rows; r += chunk) {
    const int64_t end = std::min(rows, r + chunk);
    const Tensor x_rows = x.row_range(r, end);
    Tensor logits = buffer.row_range(0, end - r), dx_rows = dx.row_range(r, end);
    head_products(runtime, head, forward, x_rows, softcap, logits);
    cross_entropy_gradient(runtime, logits, labels, r, columns, seed, log_sums.data<float>() + r, softcap);
    matmul_input_grad(runtime, logits, input_grad, head.cols, dx_rows);
    matmul_weight_grad(runtime, logits, x_rows, dw);
    dw.accumulate = true;
  }
  context.store.release(head);
  context.store.release(head);
  context.store.contributed(head);
  return dx;
}

}  // namespace deepflow
