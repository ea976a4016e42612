#include "parallel/ops/vocabulary_head_loss.h"

#include "core/error.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/head_loss_rows.h"
#include "kernels/ops/linear_products.h"
#include "kernels/ops/matmul.h"
#include "parallel/ops/row_exchange.h"
#include "parallel/ops/vocabulary_part.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace deepflow {
namespace {

// The gradient of x from this rank's summand, on its way.
Grad summed_gradient(BackwardContext& context, const TensorParallel& tp, const Tensor& summand, const Pack& head) {
  const std::string name = head.name + ", sum of dx";
  if (!tp.sequence) return {summand, tp.comm->all_reduce(summand, ReduceOp::kSum, name)};
  const ArrivingRows dx = begin_reduce_scatter(context.runtime, tp, {summand.rows(), tp.size()}, summand, name);
  return {dx.rows, dx.work};
}

// Holds the gradient of this rank's logits.
class KeepingNode final : public Node {
 public:
  KeepingNode(Tensor x, bool wants_input_grad, Pack& head, Tensor dlogits, const TensorParallel& tp)
      : x_(std::move(x)), dlogits_(std::move(dlogits)), head_(head), tp_(tp), wants_input_grad_(wants_input_grad) {}
  const char* name() const override { return "vocabulary_head_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    if (const float seed = loss_seed(out[0]); seed != 1) scale(context.runtime, dlogits_, seed);
    std::vector<Grad> grads(1);
    if (wants_input_grad_)
      grads[0] = summed_gradient(context, tp_, head_input_gradient(context, head_, dlogits_), head_);
    return grads;
  }

  void backward_weight(BackwardContext& context) override { add_weight_gradient(context, head_, dlogits_, x_); }

 private:
  Tensor x_, dlogits_;
  Pack& head_;
  TensorParallel tp_;
  bool wants_input_grad_;
};

// Keeps a number per row and computes the logits again, chunk by chunk.
class RecomputingNode final : public Node {
 public:
  RecomputingNode(Tensor x, Pack& head, HeadLabels labels, HeadColumns columns, Tensor log_sums,
                  const TensorParallel& tp, float softcap)
      : x_(std::move(x)),
        log_sums_(std::move(log_sums)),
        labels_(std::move(labels)),
        columns_(columns),
        head_(head),
        tp_(tp),
        softcap_(softcap) {}
  const char* name() const override { return "vocabulary_head_loss"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const Tensor summand =
        recomputed_head_gradients(context, head_, x_, labels_, columns_, loss_seed(out[0]), log_sums_, softcap_);
    x_ = log_sums_ = {};
    std::vector<Grad> grads;
    grads.push_back(summed_gradient(context, tp_, summand, head_));
    return grads;
  }

 private:
  Tensor x_, log_sums_;
  HeadLabels labels_;
  HeadColumns columns_;
  Pack& head_;
  TensorParallel tp_;
  float softcap_;
};

// All rows of x, which under sequence parallelism arrive chunk by chunk, in the same order on all ranks.
class HeadInput {
 public:
  HeadInput(ForwardContext& context, const Tensor& x, int64_t chunk, const TensorParallel& tp, std::string name)
      : stream_(context.stream),
        tp_(tp),
        own_(tp.sequence ? contiguous_rows(context.runtime, x) : x),
        all_(x),
        deal_{tp.sequence ? context.rows.rows() : x.rows(), tp.size()},
        chunk_(tp.overlap ? chunk : deal_.total),
        name_(std::move(name)) {
    if (!tp.sequence) return;
    DF_ASSERT(x.rows() == deal_.count(tp.rank()), "{}: {} rows of {}", name_, x.rows(), deal_.total);
    all_ = context.empty({deal_.total, x.cols()}, x.dtype());
    begin_next();
  }

  // Waits for the rows before `end`, and lets the chunk behind them come.
  void arrive(int64_t end) {
    while (tp_.sequence && arrived_ < end) {
      std::exchange(work_, nullptr)->wait(stream_);
      arrived_ = begun_;
      begin_next();
    }
  }
  const Tensor& all() const { return all_; }

 private:
  void begin_next() {
    const int64_t begin = begun_, end = std::min(deal_.total, begun_ + chunk_);
    if (begin == end) return;
    std::vector<int64_t> counts;
    const auto inside = [&](int64_t row) { return std::clamp(row, begin, end); };
    for (int r = 0; r < tp_.size(); ++r)
      counts.push_back((inside(deal_.first(r + 1)) - inside(deal_.first(r))) * all_.cols());
    const int64_t first = deal_.first(tp_.rank()), mine = own_.rows();
    const Tensor sent =
        own_.row_range(std::clamp(begin - first, int64_t{0}, mine), std::clamp(end - first, int64_t{0}, mine));
    work_ = tp_.comm->all_gather(sent, all_.row_range(begin, end), counts, name_);
    begun_ = end;
  }

  Stream& stream_;
  const TensorParallel& tp_;
  Tensor own_, all_;
  Deal deal_;
  int64_t chunk_, begun_ = 0, arrived_ = 0;
  WorkPtr work_;
  std::string name_;
};

// What a rank knows of a row's softmax.
struct RowPart {
  float log_sum, at_label;
};

// Forward over all rows: parts of the softmax are exchanged while the next chunk is multiplied.
class HeadForward {
 public:
  HeadForward(ForwardContext& context, const HeadLabels& labels, const Deal& vocabulary, const TensorParallel& tp,
              bool keep_gradient, const Pack& head, float softcap)
      : nll(context.empty({labels.labels.num_elements()}, DType::kF32)),
        log_sums(context.empty(nll.shape(), DType::kF32)),
        context_(context),
        labels_(labels),
        vocabulary_(vocabulary),
        columns_{vocabulary.first(tp.rank()), vocabulary.count(tp.rank())},
        tp_(tp),
        keep_gradient_(keep_gradient),
        softcap_(softcap),
        name_(head.name + ", parts of the softmax") {}

  // Logits of the rows from `first` on. Where the gradient is kept, they become it, at the latest in `finish`.
  void take(const Tensor& logits, int64_t first) {
    const Tensor mine = context_.empty({logits.rows(), 2}, DType::kF32);
    find_parts(logits, first, mine);
    Chunk chunk{logits, first, context_.empty({tp_.size(), logits.rows() * 2}, DType::kF32), nullptr};
    const std::vector<int64_t> counts(static_cast<size_t>(tp_.size()), mine.num_elements());
    chunk.work = tp_.comm->all_gather(mine, chunk.parts, counts, name_);
    finish();
    pending_ = std::move(chunk);
  }
  void finish() {
    if (!pending_.work) return;
    std::exchange(pending_.work, nullptr)->wait(context_.stream);
    for (int64_t r = 0; r < pending_.logits.rows(); ++r) combine(r);
    if (keep_gradient_)
      cross_entropy_gradient(context_.runtime, pending_.logits, labels_, pending_.first, columns_, 1,
                             log_sums.data<float>() + pending_.first, softcap_);
    pending_ = {};
  }

  const Tensor nll, log_sums;

 private:
  struct Chunk {
    Tensor logits;
    int64_t first = 0;
    Tensor parts;  // RowPart [ranks, rows]
    WorkPtr work;
  };

  void find_parts(const Tensor& logits, int64_t first, const Tensor& parts) {
    auto* log_sum_exp = DF_KERNEL(context_.runtime.isa(), log_sum_exp);
    auto* part = reinterpret_cast<RowPart*>(parts.data<float>());
    context_.runtime.pool().parallel_for(logits.rows(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        part[r] = {-std::numeric_limits<float>::infinity(), 0};
        if (labels_.of(first + r) < 0 || columns_.count == 0) continue;
        const int64_t column = labels_.column(first + r, columns_);
        part[r].log_sum = log_sum_exp(logits.row_range(r, r + 1).raw(), logits.dtype(), columns_.count);
        if (column >= 0) part[r].at_label = logit_at(logits, r, column);
      }
    });
  }

  void combine(int64_t r) {
    const int64_t row = pending_.first + r, rows = pending_.logits.rows();
    const auto* parts = reinterpret_cast<const RowPart*>(pending_.parts.data<float>());
    float &row_nll = nll.data<float>()[row], &log_sum = log_sums.data<float>()[row];
    row_nll = log_sum = 0;
    if (labels_.of(row) < 0) return;
    float largest = -std::numeric_limits<float>::infinity();
    for (int rank = 0; rank < tp_.size(); ++rank) largest = std::max(largest, parts[rank * rows + r].log_sum);
    double sum = 0;  // a NaN among the parts stays one
    for (int rank = 0; rank < tp_.size(); ++rank)
      sum += std::exp(static_cast<double>(parts[rank * rows + r].log_sum) - static_cast<double>(largest));
    log_sum = static_cast<float>(static_cast<double>(largest) + std::log(sum));
    row_nll = log_sum - parts[vocabulary_.owner(labels_.of(row)) * rows + r].at_label;
  }

  ForwardContext& context_;
  const HeadLabels& labels_;
  Deal vocabulary_;
  HeadColumns columns_;
  const TensorParallel& tp_;
  bool keep_gradient_;
  float softcap_;
  std::string name_;
  Chunk pending_;
};

}  // namespace

LossResult vocabulary_head_loss(ForwardContext& context, const Var& x, Pack& head, const Tensor& label_ids,
                                const Tensor& weights, const TensorParallel& tp, float softcap) {
  if (!is_split(&tp)) return head_loss(context, x, head, label_ids, weights, softcap);
  const DType dtype = context.compute;
  DF_ASSERT(x.value.cols() == head.cols && x.value.dtype() == dtype, "{}: x {}", head.name,
            x.value.shape().to_string());
  const int64_t rows = tp.sequence ? context.rows.rows() : x.value.rows();
  const Deal vocabulary = vocabulary_deal(head, tp);
  const HeadLabels labels{label_ids, weights};
  check_labels(labels, rows, vocabulary.total);
  const bool keep_gradient = context.tape && dtype == DType::kBF16;
  const int64_t chunk = std::min(rows, head_chunk_rows(dtype));
  const Tensor buffer = context.empty({keep_gradient ? rows : chunk, head.physical_rows}, dtype);
  HeadInput input(context, x.value, chunk, tp, head.name + ", rows of x");
  HeadForward forward(context, labels, vocabulary, tp, keep_gradient, head, softcap);
  const Tensor packed = context.store.acquire(head, Form::kForward, context.stream);
  for (int64_t r = 0; r < rows; r += chunk) {
    const int64_t end = std::min(rows, r + chunk);
    input.arrive(end);
    Tensor logits = keep_gradient ? buffer.row_range(r, end) : buffer.row_range(0, end - r);
    head_products(context.runtime, head, packed, input.all().row_range(r, end), softcap, logits);
    forward.take(logits, r);
  }
  forward.finish();
  context.store.release(head);
  const Tensor loss = total_loss(context, labels, forward.nll);
  if (!context.tape) return {{loss}, forward.nll};
  std::unique_ptr<Node> node;
  if (keep_gradient)
    node = std::make_unique<KeepingNode>(input.all(), x.node != kNoNode, head, buffer, tp);
  else
    node = std::make_unique<RecomputingNode>(
        input.all(), head, labels, HeadColumns{vocabulary.first(tp.rank()), head.rows}, forward.log_sums, tp, softcap);
  const Var inputs[] = {x};
  return {context.tape->record(std::move(node), inputs, loss), forward.nll};
}

Tensor vocabulary_head_logits(ForwardContext& context, const Tensor& x, Pack& head, const TensorParallel& tp,
                              float softcap) {
  if (!is_split(&tp)) return head_logits(context, x, head, softcap);
  const Deal vocabulary = vocabulary_deal(head, tp);
  HeadInput input(context, x, head_chunk_rows(x.dtype()), tp, head.name + ", rows of x");
  input.arrive(input.all().rows());
  const Tensor own = contiguous_rows(context.runtime, head_logits(context, input.all(), head, softcap));
  const int64_t rows = own.rows();
  const Tensor parts = context.empty({rows * vocabulary.total}, DType::kF32);
  tp.comm->all_gather(own, parts, vocabulary.elements(rows), head.name + ", logits")->wait(context.stream);
  Tensor logits = context.empty({rows, vocabulary.total}, DType::kF32);
  for (int r = 0; r < tp.size(); ++r) {
    const int64_t first = vocabulary.first(r), last = vocabulary.first(r + 1);
    Tensor columns = logits.column_range(first, last);
    if (first < last)
      copy(context.runtime, parts.flat_range(rows * first, rows * last).view({rows, last - first}), columns);
  }
  return logits;
}

}  // namespace deepflow
