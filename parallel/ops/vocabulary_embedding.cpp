#include "parallel/ops/vocabulary_embedding.h"

#include "core/error.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/embedding_rows.h"
#include "parallel/ops/row_exchange.h"
#include "parallel/ops/vocabulary_part.h"

#include <memory>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

// How rows go from the owners of their tokens to the ranks that they are dealt to. What a rank sends lies in the order
// of the rows, which is also the order of the ranks that it goes to; what arrives lies owner after owner.
struct Route {
  Tensor owned_tokens;                  // i32: row of the pack, for every token that is this rank's
  Tensor owned_rows;                    // i32: which of the M rows these are
  Tensor slots;                         // i32: where each of this rank's dealt rows arrives
  Tensor arrivals;                      // i32: which dealt row arrives in each place
  std::vector<int64_t> sent, received;  // elements to and from every rank
};

Tensor integers(Runtime& runtime, const std::vector<int32_t>& values) {
  Tensor t = Tensor::empty(runtime.memory(), {static_cast<int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), t.data<int32_t>());
  return t;
}

Route plan_route(Runtime& runtime, const Tensor& tokens, const Deal& vocabulary, const Deal& rows, int64_t cols,
                 int rank) {
  const auto ranks = static_cast<size_t>(rows.num_ranks);
  std::vector<int32_t> owned_tokens, owned_rows;
  std::vector<std::vector<int32_t>> from(ranks);  // dealt rows by the owner of their tokens
  Route route;
  route.sent.assign(ranks, 0);
  route.received.assign(ranks, 0);
  for (int64_t row = 0; row < rows.total; ++row) {
    const int64_t token = tokens.data<int32_t>()[row];
    const auto owner = static_cast<size_t>(vocabulary.owner(token)), reader = static_cast<size_t>(rows.owner(row));
    if (owner == static_cast<size_t>(rank)) {
      owned_tokens.push_back(static_cast<int32_t>(token - vocabulary.first(rank)));
      owned_rows.push_back(static_cast<int32_t>(row));
      route.sent[reader] += cols;
    }
    if (reader == static_cast<size_t>(rank)) {
      from[owner].push_back(static_cast<int32_t>(row - rows.first(rank)));
      route.received[owner] += cols;
    }
  }
  std::vector<int32_t> arrivals, slots(static_cast<size_t>(rows.count(rank)));
  for (const std::vector<int32_t>& list : from)
    for (const int32_t row : list) {
      slots[static_cast<size_t>(row)] = static_cast<int32_t>(arrivals.size());
      arrivals.push_back(row);
    }
  route.owned_tokens = integers(runtime, owned_tokens);
  route.owned_rows = integers(runtime, owned_rows);
  route.slots = integers(runtime, slots);
  route.arrivals = integers(runtime, arrivals);
  return route;
}

Tensor rows_of(Runtime& runtime, const Tensor& table, const Tensor& ids) {
  Tensor rows = Tensor::empty(runtime.memory(), {ids.num_elements(), table.cols()}, DType::kF32);
  read_rows(runtime, {table, ids}, nullptr, rows);
  return rows;
}

class VocabularyEmbeddingNode final : public Node {
 public:
  VocabularyEmbeddingNode(Route route, Pack& table, Tensor position_ids, Pack* positions, const TensorParallel& tp)
      : route_(std::move(route)),
        position_ids_(std::move(position_ids)),
        table_(table),
        positions_(positions),
        tp_(tp) {}
  const char* name() const override { return "vocabulary_embedding"; }

  std::vector<Grad> backward_input(BackwardContext& context, std::span<Grad> out) override {
    Runtime& runtime = context.runtime;
    dx_ = contiguous_rows(runtime, out[0].value);
    if (!tp_.sequence) return {};
    const Tensor returned = rows_of(runtime, dx_, route_.arrivals);
    owned_dx_.rows = Tensor::empty(runtime.memory(), {route_.owned_tokens.num_elements(), dx_.cols()}, DType::kF32);
    owned_dx_.work =
        tp_.comm->all_to_all(returned, route_.received, owned_dx_.rows, route_.sent, table_.name + ", rows of dx");
    return {};
  }

  void backward_weight(BackwardContext& context) override {
    if (positions_) scatter_gradient(context, *positions_, position_ids_, dx_);
    const Tensor owned =
        tp_.sequence ? owned_dx_.wait(context.stream) : rows_of(context.runtime, dx_, route_.owned_rows);
    scatter_gradient(context, table_, route_.owned_tokens, owned);
  }

 private:
  Route route_;
  Tensor position_ids_, dx_;
  ArrivingRows owned_dx_;
  Pack& table_;
  Pack* positions_;
  TensorParallel tp_;
};

// This rank's dealt rows, with what `positions` adds.
Tensor dealt_embedding(ForwardContext& context, Pack& table, Pack* positions, const Tensor& position_ids,
                       const Route& route, const TensorParallel& tp) {
  const Tensor values = context.store.acquire(table, Form::kMaster, context.stream);
  const Tensor sent = rows_of(context.runtime, values, route.owned_tokens);
  context.store.release(table);
  const Tensor arrived = context.empty({route.slots.num_elements(), table.cols}, DType::kF32);
  const WorkPtr work = tp.comm->all_to_all(sent, route.sent, arrived, route.received, table.name + ", rows of x");
  Tensor x = context.empty(arrived.shape(), DType::kF32);
  const Tensor places = positions ? context.store.acquire(*positions, Form::kMaster, context.stream) : Tensor();
  const TableRows place_rows{places, position_ids};
  work->wait(context.stream);
  read_rows(context.runtime, {arrived, route.slots}, positions ? &place_rows : nullptr, x);
  if (positions) context.store.release(*positions);
  return x;
}

}  // namespace

Var vocabulary_embedding(ForwardContext& context, const Tensor& tokens, Pack& table, Pack* positions,
                         const TensorParallel& tp) {
  if (!is_split(&tp)) return embedding(context, tokens, table, positions);
  const Deal vocabulary = vocabulary_deal(table, tp), rows{tokens.num_elements(), tp.size()};
  check_token_ids(tokens, vocabulary.total);
  Tensor all_positions, dealt_positions;
  if (positions) {
    all_positions = context.rows.positions;
    DF_ASSERT(all_positions.num_elements() == rows.total && positions->cols == table.cols);
    check_positions(all_positions, positions->rows);
    dealt_positions = all_positions.flat_range(rows.first(tp.rank()), rows.first(tp.rank() + 1));
  }
  Route route = plan_route(context.runtime, tokens, vocabulary, rows, table.cols, tp.rank());
  Tensor x = dealt_embedding(context, table, positions, dealt_positions, route, tp);
  if (!tp.sequence) x = begin_gather(context.runtime, tp, rows, x, table.name + ", all of x").wait(context.stream);
  if (!context.tape) return {std::move(x)};
  auto node = std::make_unique<VocabularyEmbeddingNode>(std::move(route), table,
                                                        tp.sequence ? dealt_positions : all_positions, positions, tp);
  return context.tape->record(std::move(node), {}, std::move(x));
}

}  // namespace deepflow
