#include "parallel/ops/expert_exchange.h"

#include "core/error.h"
#include "core/turns.h"
#include "parallel/ops/row_exchange.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace deepflow {
namespace {

// The choices of experts as choices of places and the experts there: entry j * etp + t of a row is part t of choice j.
Tensor choices_of_places(ForwardContext& context, const Tensor& expert, int64_t local_experts, int etp) {
  Tensor choices = context.empty({expert.rows(), expert.cols() * etp}, DType::kI32);
  const int32_t* e = expert.data<int32_t>();
  int32_t* to = choices.data<int32_t>();
  for (int64_t i = 0; i < expert.num_elements(); ++i)
    for (int t = 0; t < etp; ++t, ++to) {
      const int64_t place = e[i] / local_experts * etp + t;
      *to = e[i] < 0 ? -1 : static_cast<int32_t>(place * local_experts + e[i] % local_experts);
    }
  return choices;
}

// i32 [places, local experts]: rows that the slots of `sent` hold.
Tensor rows_by_place(ForwardContext& context, const Dispatch& sent, int places, int64_t local_experts) {
  Tensor counts = context.empty({places, local_experts}, DType::kI32);
  for (int64_t i = 0; i < counts.num_elements(); ++i) {
    const auto at = static_cast<size_t>(i);
    counts.data<int32_t>()[i] = static_cast<int32_t>(sent.begin[at + 1] - sent.begin[at]);
  }
  return counts;
}

std::vector<int64_t> sums_of_rows(const Tensor& counts) {
  std::vector<int64_t> sums(static_cast<size_t>(counts.rows()));
  for (int64_t i = 0; i < counts.num_elements(); ++i)
    sums[static_cast<size_t>(i / counts.cols())] += counts.data<int32_t>()[i];
  return sums;
}

// i32 [rows, 1]: the local expert of every row that comes.
Tensor experts_of_arrivals(ForwardContext& context, const Tensor& counts) {
  int64_t rows = 0;
  for (const int64_t n : sums_of_rows(counts)) rows += n;
  Tensor expert = context.empty({rows, 1}, DType::kI32);
  int32_t* to = expert.data<int32_t>();
  for (int64_t i = 0; i < counts.num_elements(); ++i)
    to = std::fill_n(to, counts.data<int32_t>()[i], static_cast<int32_t>(i % counts.cols()));
  return expert;
}

Dispatch inverse_of(const Dispatch& d) {
  Dispatch inverse;
  inverse.begin = {0, d.num_slots()};
  inverse.source = d.slot.view({d.num_slots()});
  inverse.slot = d.source.view({d.num_slots(), 1});
  return inverse;
}

std::vector<int64_t> elements(const std::vector<int64_t>& rows, int64_t cols) {
  std::vector<int64_t> result;
  for (const int64_t n : rows) result.push_back(n * cols);
  return result;
}

struct Transfer {
  Tensor rows;
  WorkPtr work;
};

Transfer begin(Runtime& runtime, const ExpertParallel& ep, const Tensor& rows, const std::vector<int64_t>& to,
               const std::vector<int64_t>& from, const char* name) {
  int64_t arriving = 0;
  for (const int64_t n : from) arriving += n;
  const Tensor out = Tensor::empty(runtime.memory(), {arriving, rows.cols()}, rows.dtype());
  WorkPtr work = ep.comm->all_to_all(contiguous_rows(runtime, rows), elements(to, rows.cols()), out,
                                     elements(from, rows.cols()), name);
  return {out, ep.overlap ? waited_in_turns(runtime.slot<Turns>(), std::move(work)) : std::move(work)};
}

class TransferNode final : public Node {
 public:
  TransferNode(const ExpertParallel& ep, std::vector<int64_t> to, std::vector<int64_t> from)
      : ep_(ep), to_(std::move(to)), from_(std::move(from)) {}
  const char* name() const override { return "rows to experts"; }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const Transfer dx = begin(context.runtime, ep_, out[0].value, from_, to_, "gradients of rows of experts");
    return {{dx.rows, dx.work}};
  }

 private:
  const ExpertParallel ep_;
  std::vector<int64_t> to_, from_;
};

Var record(ForwardContext& context, const Var& input, Tensor output, const ExpertParallel& ep, std::vector<int64_t> to,
           std::vector<int64_t> from) {
  if (!context.tape) return {std::move(output)};
  return context.tape->record(std::make_unique<TransferNode>(ep, std::move(to), std::move(from)), std::span(&input, 1),
                              std::move(output));
}

class RepeatNode final : public Node {
 public:
  explicit RepeatNode(int times) : times_(times) {}
  const char* name() const override { return "weights of parts"; }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const Tensor& dy = out[0].value;
    Tensor dx = Tensor::empty(context.runtime.memory(), {dy.rows(), dy.cols() / times_}, DType::kF32);
    const float* from = dy.data<float>();
    for (int64_t i = 0; i < dx.num_elements(); ++i) {
      float sum = 0;
      for (int t = 0; t < times_; ++t) sum += *from++;
      dx.data<float>()[i] = sum;
    }
    return {{dx, nullptr}};
  }

 private:
  int times_;
};

// f32 [M, k] -> [M, k * times], every weight `times` times in a row.
Var repeated(ForwardContext& context, const Var& weights, int times) {
  if (times == 1) return weights;
  Tensor y = context.empty({weights.value.rows(), weights.value.cols() * times}, DType::kF32);
  float* to = y.data<float>();
  for (int64_t i = 0; i < weights.value.num_elements(); ++i)
    to = std::fill_n(to, times, weights.value.data<float>()[i]);
  if (!context.tape) return {std::move(y)};
  return context.tape->record(std::make_unique<RepeatNode>(times), std::span(&weights, 1), std::move(y));
}

}  // namespace

ExpertExchange plan_expert_exchange(ForwardContext& context, const Tensor& expert, int64_t num_experts,
                                    const ExpertParallel& ep) {
  DF_ASSERT(num_experts % ep.num_owners() == 0, "{} experts over {} ranks", num_experts, ep.num_owners());
  const int places = ep.size();
  const int64_t local_experts = num_experts / ep.num_owners();
  ExpertExchange x;
  x.sent =
      make_dispatch(context.runtime, choices_of_places(context, expert, local_experts, ep.etp), places * local_experts);
  const Tensor to = rows_by_place(context, x.sent, places, local_experts);
  const Tensor from = context.empty({places, local_experts}, DType::kI32);
  const std::vector<int64_t> each(static_cast<size_t>(places), local_experts);
  // Nobody gets a turn here: the rows follow after next to no work, and would have no more than that to hide behind.
  ep.comm->all_to_all(to, each, from, each, "rows for experts, counts")->wait_host();
  x.to = sums_of_rows(to);
  x.from = sums_of_rows(from);
  x.arrived = make_dispatch(context.runtime, experts_of_arrivals(context, from), local_experts);
  x.leaving = inverse_of(x.arrived);
  return x;
}

Var rows_of_experts(ForwardContext& context, const Var& x, const ExpertExchange& exchange, const ExpertParallel& ep) {
  Var sent = gather_rows(context, x, exchange.sent);
  const Transfer transfer = begin(context.runtime, ep, sent.value, exchange.to, exchange.from, "rows to experts");
  transfer.work->wait(context.stream);
  const Var came = record(context, sent, transfer.rows, ep, exchange.to, exchange.from);
  return gather_rows(context, came, exchange.arrived);
}

ReturningRows::ReturningRows(ForwardContext& context, const Var& outputs, const ExpertExchange& exchange,
                             const ExpertParallel& ep)
    : exchange_(exchange), ep_(ep), sorted_(gather_rows(context, outputs, exchange.leaving)) {
  const Transfer transfer =
      begin(context.runtime, ep, sorted_.value, exchange.from, exchange.to, "rows back from experts");
  rows_ = transfer.rows;
  work_ = transfer.work;
}

Var ReturningRows::arrive(ForwardContext& context, const Var& weights) const {
  work_->wait(context.stream);
  const Var returned = record(context, sorted_, rows_, ep_, exchange_.from, exchange_.to);
  return combine_rows(context, returned, repeated(context, weights, ep_.etp), exchange_.sent);
}

}  // namespace deepflow
