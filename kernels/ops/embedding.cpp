#include "kernels/ops/embedding.h"

#include "core/error.h"
#include "kernels/ops/embedding_rows.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

class EmbeddingNode final : public Node {
 public:
  EmbeddingNode(Tensor tokens, Pack& table, Tensor position_ids, Pack* positions)
      : tokens_(std::move(tokens)), position_ids_(std::move(position_ids)), table_(table), positions_(positions) {}
  const char* name() const override { return "embedding"; }

  std::vector<Grad> backward_input(BackwardContext&, std::span<Grad> out) override {
    dx_ = std::move(out[0].value);
    DF_ASSERT(dx_.is_contiguous());
    return {};
  }

  void backward_weight(BackwardContext& context) override {
    scatter_gradient(context, table_, tokens_, dx_);
    if (positions_) scatter_gradient(context, *positions_, position_ids_, dx_);
  }

 private:
  Tensor tokens_, position_ids_, dx_;
  Pack& table_;
  Pack* positions_;
};

}  // namespace

Var embedding(ForwardContext& context, const Tensor& tokens, Pack& table, Pack* positions) {
  const int64_t rows = tokens.num_elements();
  check_token_ids(tokens, table.rows);
  if (positions) {
    DF_ASSERT(context.rows.positions.num_elements() == rows && positions->cols == table.cols);
    check_positions(context.rows.positions, positions->rows);
  }
  Tensor x = context.empty({rows, table.cols}, DType::kF32);
  const Tensor values = context.store.acquire(table, Form::kMaster, context.stream);
  const Tensor places = positions ? context.store.acquire(*positions, Form::kMaster, context.stream) : Tensor();
  const TableRows place_rows{places, context.rows.positions};
  read_rows(context.runtime, {values, tokens}, positions ? &place_rows : nullptr, x);
  context.store.release(table);
  if (positions) context.store.release(*positions);
  if (!context.tape) return {std::move(x)};
  auto node = std::make_unique<EmbeddingNode>(tokens, table, positions ? context.rows.positions : Tensor(), positions);
  return context.tape->record(std::move(node), {}, std::move(x));
}

}  // namespace deepflow
