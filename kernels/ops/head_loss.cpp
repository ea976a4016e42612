#include "kernels/ops/head_loss.h"

#include "core/error.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/head_loss_rows.h"
#include "kernels/ops/linear_products.h"
#include "kernels/ops/matmul.h"

#include <algorithm>

namespace deepflow {
namespace {

HeadColumns all_columns(const Pack& head) { return {0, head.rows}; }

// Statistics of logits [rows, physical], the rows from `first` on of the whole: nll and log_sum_exp of every row with a
// label. With `overwrite` a row's logits become its gradient while they are in the cache.
void cross_entropy(Runtime& runtime, const Tensor& logits, const HeadLabels& labels, int64_t first, const Pack& head,
                   bool overwrite, float softcap, float* nll, float* log_sums) {
  auto* log_sum_exp = DF_KERNEL(runtime.isa(), log_sum_exp);
  auto* gradient = DF_KERNEL(runtime.isa(), cross_entropy_gradient);
  runtime.pool().parallel_for(logits.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Tensor row = logits.row_range(r, r + 1);
      const int64_t label = labels.of(first + r);
      nll[r] = log_sums[r] = 0;
      if (label >= 0) {
        const float at_label = logit_at(row, 0, label);
        log_sums[r] = log_sum_exp(row.raw(), row.dtype(), head.rows);
        nll[r] = log_sums[r] - at_label;
      }
      const float weight = labels.weight(first + r);
      if (overwrite && weight == 0)
        std::fill_n(static_cast<char*>(row.raw()), row.num_bytes(), char{0});
      else if (overwrite)
        gradient(row.raw(), row.dtype(), head.rows, row.cols(), log_sums[r], label, weight, softcap);
    }
  });
}

// Holds the gradient of the logits.
class HeadLossNode final : public Node {
 public:
  HeadLossNode(const Var& x, Pack& head, Tensor dlogits)
      : x_(x.value), head_(head), dlogits_(std::move(dlogits)), wants_input_grad_(x.node != kNoNode) {}

  const char* name() const override { return "head_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    if (const float seed = loss_seed(out[0]); seed != 1) scale(context.runtime, dlogits_, seed);
    std::vector<Grad> grads(1);
    if (wants_input_grad_) grads[0].value = head_input_gradient(context, head_, dlogits_);
    return grads;
  }

  void backward_weight(BackwardContext& context) override { add_weight_gradient(context, head_, dlogits_, x_); }

 private:
  Tensor x_;
  Pack& head_;
  Tensor dlogits_;
  bool wants_input_grad_;
};

// Keeps a number per row and computes the logits again, chunk by chunk. In f16 for the sake of the seed: a gradient
// made in forward would be rounded before the loss scale lifts it out of what f16 loses.
class RecomputingHeadLossNode final : public Node {
 public:
  RecomputingHeadLossNode(const Var& x, Pack& head, HeadLabels labels, Tensor log_sums, float softcap)
      : x_(x.value), head_(head), labels_(std::move(labels)), log_sums_(std::move(log_sums)), softcap_(softcap) {}

  const char* name() const override { return "head_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    std::vector<Grad> grads(1);
    grads[0].value = recomputed_head_gradients(context, head_, x_, labels_, all_columns(head_), loss_seed(out[0]),
                                               log_sums_, softcap_);
    x_ = log_sums_ = {};
    return grads;
  }

 private:
  Tensor x_;
  Pack& head_;
  HeadLabels labels_;
  Tensor log_sums_;
  float softcap_;
};

}  // namespace

LossResult head_loss(ForwardContext& context, const Var& x, Pack& head, const Tensor& label_ids, const Tensor& weights,
                     float softcap) {
  const int64_t rows = x.value.rows();
  const DType dtype = context.compute;
  DF_ASSERT(x.value.cols() == head.cols && x.value.dtype() == dtype, "{}: x {}", head.name,
            x.value.shape().to_string());
  const HeadLabels labels{label_ids, weights};
  check_labels(labels, rows, head.rows);
  const bool keep_gradient = context.tape && dtype == DType::kBF16;
  const int64_t chunk = std::min(rows, head_chunk_rows(dtype));
  const Tensor buffer = context.empty({keep_gradient ? rows : chunk, head.physical_rows}, dtype);
  const Tensor nll = context.empty({rows}, DType::kF32), log_sums = context.empty({rows}, DType::kF32);
  const Tensor packed = context.store.acquire(head, Form::kForward, context.stream);
  for (int64_t r = 0; r < rows; r += chunk) {
    const int64_t end = std::min(rows, r + chunk);
    Tensor logits = keep_gradient ? buffer.row_range(r, end) : buffer.row_range(0, end - r);
    head_products(context.runtime, head, packed, x.value.row_range(r, end), softcap, logits);
    cross_entropy(context.runtime, logits, labels, r, head, keep_gradient, softcap, nll.data<float>() + r,
                  log_sums.data<float>() + r);
  }
  context.store.release(head);
  const Tensor loss = total_loss(context, labels, nll);
  if (!context.tape) return {{loss}, nll};
  std::unique_ptr<Node> node;
  if (keep_gradient)
    node = std::make_unique<HeadLossNode>(x, head, buffer);
  else
    node = std::make_unique<RecomputingHeadLossNode>(x, head, labels, log_sums, softcap);
  const Var inputs[] = {x};
  return {context.tape->record(std::move(node), inputs, loss), nll};
}

Tensor head_logits(ForwardContext& context, const Tensor& x, Pack& head, float softcap) {
  Tensor logits = context.empty({x.rows(), head.physical_rows}, DType::kF32);
  const Tensor packed = context.store.acquire(head, Form::kForward, context.stream);
  head_products(context.runtime, head, packed, x, softcap, logits);
  context.store.release(head);
  return logits.column_range(0, head.rows);
}

}  // namespace deepflow
