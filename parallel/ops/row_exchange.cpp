#include "parallel/ops/row_exchange.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

#include <utility>

namespace deepflow {
namespace {

class RowExchangeNode final : public Node {
 public:
  RowExchangeNode(bool gathered, const TensorParallel& tp, const Deal& deal)
      : gathered_(gathered), tp_(tp), deal_(deal) {}
  const char* name() const override { return gathered_ ? "gather_rows" : "scatter_rows"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const Tensor dy = contiguous_rows(context.runtime, out[0].value);
    const ArrivingRows dx = gathered_ ? begin_reduce_scatter(context.runtime, tp_, deal_, dy, "rows, sum of gradients")
                                      : begin_gather(context.runtime, tp_, deal_, dy, "rows, gathered gradients");
    return {{dx.rows, dx.work}};
  }

 private:
  bool gathered_;
  TensorParallel tp_;
  Deal deal_;
};

class ShareRowsNode final : public Node {
 public:
  explicit ShareRowsNode(const TensorParallel& tp) : tp_(tp) {}
  const char* name() const override { return "share_rows"; }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Tensor dx = std::move(out[0].value);
    if (!dx.is_contiguous()) dx = contiguous_rows(context.runtime, dx);
    dx = owned_copy(context.runtime, std::move(dx));
    return {{dx, tp_.comm->all_reduce(dx, ReduceOp::kSum, "rows, sum of gradients")}};
  }

 private:
  TensorParallel tp_;
};

class SplitRowsNode final : public Node {
 public:
  SplitRowsNode(const TensorParallel& tp, const Deal& deal) : tp_(tp), deal_(deal) {}
  const char* name() const override { return "split_rows"; }
  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    const ArrivingRows dx = begin_gather(context.runtime, tp_, deal_, out[0].value, "rows, gathered gradients");
    return {{dx.rows, dx.work}};
  }

 private:
  TensorParallel tp_;
  Deal deal_;
};

class JoinRowsNode final : public Node {
 public:
  JoinRowsNode(int rank, const Deal& deal) : rank_(rank), deal_(deal) {}
  const char* name() const override { return "join_rows"; }
  std::vector<Grad> backward_input(BackwardContext&, std::span<Grad> out) override {
    return {{deal_.part(out[0].value, rank_), nullptr}};
  }

 private:
  int rank_;
  Deal deal_;
};

Var record(ForwardContext& context, const Var& x, bool gathered, const TensorParallel& tp, const Deal& deal,
           const ArrivingRows& arriving) {
  Tensor y = arriving.wait(context.stream);
  if (!context.tape) return {y};
  const Var inputs[] = {x};
  return context.tape->record(std::make_unique<RowExchangeNode>(gathered, tp, deal), inputs, y);
}

}  // namespace

Tensor contiguous_rows(Runtime& runtime, const Tensor& x) {
  if (x.is_contiguous()) return x;
  Tensor rows = Tensor::empty(runtime.memory(), {x.rows(), x.cols()}, x.dtype());
  copy(runtime, x, rows);
  return rows;
}

ArrivingRows begin_gather(Runtime& runtime, const TensorParallel& tp, const Deal& deal, const Tensor& own,
                          const std::string& name) {
  DF_ASSERT(own.rows() == deal.count(tp.rank()), "{}: {} rows of {}", name, own.rows(), deal.total);
  const Tensor all = Tensor::empty(runtime.memory(), {deal.total, own.cols()}, own.dtype());
  return {all, tp.comm->all_gather(contiguous_rows(runtime, own), all, deal.elements(own.cols()), name)};
}

ArrivingRows begin_reduce_scatter(Runtime& runtime, const TensorParallel& tp, const Deal& deal, const Tensor& x,
                                  const std::string& name) {
  DF_ASSERT(x.rows() == deal.total, "{}: {} rows of {}", name, x.rows(), deal.total);
  const Tensor own = Tensor::empty(runtime.memory(), {deal.count(tp.rank()), x.cols()}, x.dtype());
  return {own, tp.comm->reduce_scatter(x, own, deal.elements(x.cols()), name)};
}

Var gather_rows(ForwardContext& context, const Var& x, const TensorParallel& tp) {
  if (!is_split(&tp)) return x;
  const Deal deal{context.rows.rows(), tp.size()};
  return record(context, x, true, tp, deal, begin_gather(context.runtime, tp, deal, x.value, "rows, gathered"));
}

Var scatter_rows(ForwardContext& context, const Var& x, const TensorParallel& tp) {
  if (!is_split(&tp)) return x;
  const Deal deal{context.rows.rows(), tp.size()};
  const Tensor summands = contiguous_rows(context.runtime, x.value);
  return record(context, x, false, tp, deal, begin_reduce_scatter(context.runtime, tp, deal, summands, "rows, sum"));
}

Var share_rows(ForwardContext& context, const Var& x, const TensorParallel& tp) {
  if (!is_split(&tp) || !context.tape) return x;
  return context.tape->record(std::make_unique<ShareRowsNode>(tp), std::span(&x, 1), x.value);
}

Var split_rows(ForwardContext& context, const Var& x, const TensorParallel& tp) {
  if (!is_split(&tp)) return x;
  const Deal deal{context.rows.rows(), tp.size()};
  Tensor own = deal.part(x.value, tp.rank());
  if (!context.tape) return {std::move(own)};
  return context.tape->record(std::make_unique<SplitRowsNode>(tp, deal), std::span(&x, 1), std::move(own));
}

Var join_rows(ForwardContext& context, const Var& x, const TensorParallel& tp) {
  if (!is_split(&tp)) return x;
  const Deal deal{context.rows.rows(), tp.size()};
  Tensor all = begin_gather(context.runtime, tp, deal, x.value, "rows, joined").wait(context.stream);
  if (!context.tape) return {std::move(all)};
  return context.tape->record(std::make_unique<JoinRowsNode>(tp.rank(), deal), std::span(&x, 1), std::move(all));
}

}  // namespace deepflow
