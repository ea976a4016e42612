#include "kernels/ops/head_loss.h"

#include "core/error.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"

#include <algorithm>

namespace deepflow {
namespace {

// Tokens whose logits are made at once. 256 to 1024 cost the same, fewer cost GEMM speed; in f32 every chunk also reads
// and writes the whole weight gradient.
int64_t chunk_rows(DType dtype) { return dtype == DType::kF32 ? 512 : 256; }

struct Labels {
  Tensor labels, weights;
  int64_t of(int64_t row) const { return labels.data<int32_t>()[row]; }
  float weight(int64_t row) const { return of(row) < 0 ? 0.0f : weights.data<float>()[row]; }
};

void check_labels(const Labels& l, int64_t rows, const Pack& head) {
  DF_ASSERT(l.labels.num_elements() == rows && l.weights.num_elements() == rows, "{} rows", rows);
  for (int64_t r = 0; r < rows; ++r)
    if (l.of(r) < -1 || l.of(r) >= head.rows)
      throw DataError("label {} of row {} is not a token of a vocabulary of {} (-1 masks a row)", l.of(r), r,
                      head.rows);
}

char* row_of(const Tensor& t, int64_t row) {
  return static_cast<char*>(t.raw()) + static_cast<size_t>(row * t.ld()) * size_of(t.dtype());
}

// Statistics of logits [rows, physical], the rows from `first` on of the whole: nll and log_sum_exp of every row with a
// label. With `overwrite` the logits become the gradient of the loss.
void cross_entropy(Runtime& runtime, Tensor& logits, const Labels& labels, int64_t first, const Pack& head,
                   bool overwrite, float* nll, float* log_sums) {
  const DType dtype = logits.dtype();
  auto* log_sum_exp = DF_KERNEL(runtime.isa(), log_sum_exp);
  auto* gradient = DF_KERNEL(runtime.isa(), cross_entropy_gradient);
  runtime.pool().parallel_for(logits.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      char* row = row_of(logits, r);
      const int64_t label = labels.of(first + r), bytes = logits.cols() * static_cast<int64_t>(size_of(dtype));
      nll[r] = log_sums[r] = 0;
      if (label >= 0) {
        const float at_label = dtype == DType::kF32 ? reinterpret_cast<const float*>(row)[label]
                                                    : to_float(reinterpret_cast<const BF16*>(row)[label]);
        log_sums[r] = log_sum_exp(row, dtype, head.rows);
        nll[r] = log_sums[r] - at_label;
      }
      const float weight = labels.weight(first + r);
      if (overwrite && weight == 0)
        std::fill_n(row, bytes, char{0});
      else if (overwrite)
        gradient(row, dtype, head.rows, logits.cols(), log_sums[r], label, weight);
    }
  });
}

// The gradient alone, where the log-sum-exps are known.
void cross_entropy_gradient(Runtime& runtime, Tensor& logits, const Labels& labels, int64_t first, const Pack& head,
                            float seed, const float* log_sums) {
  auto* gradient = DF_KERNEL(runtime.isa(), cross_entropy_gradient);
  runtime.pool().parallel_for(logits.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float weight = labels.weight(first + r);
      if (weight == 0)
        std::fill_n(reinterpret_cast<float*>(row_of(logits, r)), logits.cols(), 0.0f);
      else
        gradient(row_of(logits, r), logits.dtype(), head.rows, logits.cols(), log_sums[r], labels.of(first + r),
                 weight * seed);
    }
  });
}

float seed_of(const Grad& grad) { return grad.value.data<float>()[0]; }

// Holds the gradient of the logits.
class HeadLossNode final : public Node {
 public:
  HeadLossNode(const Var& x, Pack& head, Tensor dlogits)
      : x_(x.value), head_(head), dlogits_(std::move(dlogits)), wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "head_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const float seed = seed_of(out[0]);
    if (seed != 1) scale(context.runtime, dlogits_, seed);
    std::vector<Grad> grads(1);
    if (!wants_input_grad_) return grads;
    Tensor dx = Tensor::empty(context.runtime.memory(), {x_.rows(), x_.cols()}, x_.dtype());
    const Tensor packed = context.store.acquire(head_, Form::kInputGrad, context.stream);
    matmul_input_grad(context.runtime, dlogits_, packed, head_.cols, dx);
    context.store.release(head_);
    grads[0].value = std::move(dx);
    return grads;
  }

  void backward_weight(BackwardContext& context) override {
    GradientTarget dw = context.store.gradient(head_);
    matmul_weight_grad(context.runtime, dlogits_, x_, dw);
    context.store.contributed(head_);
  }

 private:
  Tensor x_;
  Pack& head_;
  Tensor dlogits_;
  bool wants_input_grad_;
};

// Keeps a number per row and computes the logits again, chunk by chunk.
class RecomputingHeadLossNode final : public Node {
 public:
  RecomputingHeadLossNode(const Var& x, Pack& head, Labels labels, Tensor log_sums)
      : x_(x.value), head_(head), labels_(std::move(labels)), log_sums_(std::move(log_sums)) {}

  const char* name() const override { return "head_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    const float seed = seed_of(out[0]);
    const int64_t rows = x_.rows(), chunk = std::min(rows, chunk_rows(x_.dtype()));
    Tensor dx = Tensor::empty(runtime.memory(), {rows, x_.cols()}, x_.dtype());
    Tensor buffer = Tensor::empty(runtime.memory(), {chunk, head_.physical_rows}, x_.dtype());
    GradientTarget dw = context.store.gradient(head_);
    const Tensor forward = context.store.acquire(head_, Form::kForward, context.stream);
    const Tensor input_grad = context.store.acquire(head_, Form::kInputGrad, context.stream);
    if (rows == 0) matmul_weight_grad(runtime, buffer, x_, dw);
    for (int64_t r = 0; r < rows; r += chunk) {
      const int64_t end = std::min(rows, r + chunk);
      const Tensor x = x_.row_range(r, end);
      Tensor logits = buffer.row_range(0, end - r), dx_rows = dx.row_range(r, end);
      matmul_forward(runtime, x, forward, head_.physical_rows, nullptr, logits);
      cross_entropy_gradient(runtime, logits, labels_, r, head_, seed, log_sums_.data<float>() + r);
      matmul_input_grad(runtime, logits, input_grad, head_.cols, dx_rows);
      matmul_weight_grad(runtime, logits, x, dw);
      dw.accumulate = true;
    }
    context.store.release(head_);
    context.store.release(head_);
    context.store.contributed(head_);
    std::vector<Grad> grads(1);
    grads[0].value = std::move(dx);
    return grads;
  }

 private:
  Tensor x_;
  Pack& head_;
  Labels labels_;
  Tensor log_sums_;
};

Tensor total_loss(ForwardContext& context, const Labels& labels, const Tensor& nll) {
  double sum = 0;
  for (int64_t r = 0; r < nll.num_elements(); ++r)
    if (const float weight = labels.weight(r); weight != 0)
      sum += static_cast<double>(weight) * static_cast<double>(nll.data<float>()[r]);
  Tensor loss = context.empty({1}, DType::kF32);
  loss.data<float>()[0] = static_cast<float>(sum);
  return loss;
}

}  // namespace

LossResult head_loss(ForwardContext& context, const Var& x, Pack& head, const Tensor& label_ids,
                     const Tensor& weights) {
  const int64_t rows = x.value.rows();
  const DType dtype = context.compute;
  DF_ASSERT(x.value.cols() == head.cols && x.value.dtype() == dtype, "{}: x {}", head.name,
            x.value.shape().to_string());
  const Labels labels{label_ids, weights};
  check_labels(labels, rows, head);
  const bool keep_gradient = context.tape && dtype != DType::kF32;
  const int64_t chunk = std::min(rows, chunk_rows(dtype));
  const Tensor buffer = context.empty({keep_gradient ? rows : chunk, head.physical_rows}, dtype);
  const Tensor nll = context.empty({rows}, DType::kF32), log_sums = context.empty({rows}, DType::kF32);
  const Tensor packed = context.store.acquire(head, Form::kForward, context.stream);
  for (int64_t r = 0; r < rows; r += chunk) {
    const int64_t end = std::min(rows, r + chunk);
    Tensor logits = keep_gradient ? buffer.row_range(r, end) : buffer.row_range(0, end - r);
    matmul_forward(context.runtime, x.value.row_range(r, end), packed, head.physical_rows, nullptr, logits);
    cross_entropy(context.runtime, logits, labels, r, head, keep_gradient, nll.data<float>() + r,
                  log_sums.data<float>() + r);
  }
  context.store.release(head);
  const Tensor loss = total_loss(context, labels, nll);
  if (!context.tape) return {{loss}, nll};
  std::unique_ptr<Node> node;
  if (keep_gradient)
    node = std::make_unique<HeadLossNode>(x, head, buffer);
  else
    node = std::make_unique<RecomputingHeadLossNode>(x, head, labels, log_sums);
  const Var inputs[] = {x};
  return {context.tape->record(std::move(node), inputs, loss), nll};
}

Tensor head_logits(ForwardContext& context, const Tensor& x, Pack& head) {
  Tensor logits = context.empty({x.rows(), head.physical_rows}, DType::kF32);
  const Tensor packed = context.store.acquire(head, Form::kForward, context.stream);
  matmul_forward(context.runtime, x, packed, head.physical_rows, nullptr, logits);
  context.store.release(head);
  return logits.column_range(0, head.rows);
}

}  // namespace deepflow
