#include "kernels/ops/embedding.h"

#include "core/error.h"
#include "kernels/cpu/embedding.h"
#include "kernels/ops/elementwise.h"

#include <memory>
#include <utility>

namespace deepflow {
namespace {

void scatter(BackwardContext& context, Pack& pack, const Tensor& ids, const Tensor& dx) {
  GradientTarget target = context.store.gradient(pack);
  if (!target.accumulate) fill(context.runtime, target.value, 0);
  auto* kernel = DF_KERNEL(context.runtime.isa(), embedding_scatter);
  const float* from = dx.data<float>();
  const int32_t* row_ids = ids.data<int32_t>();
  float* table = target.value.data<float>();
  // Threads take columns, so that every element has one writer, which goes through the rows in order.
  context.runtime.pool().parallel_for(pack.cols, 16, [&](int64_t begin, int64_t end) {
    kernel(from, row_ids, dx.rows(), pack.cols, table, begin, end);
  });
  context.store.contributed(pack);
}

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
    scatter(context, table_, tokens_, dx_);
    if (positions_) scatter(context, *positions_, position_ids_, dx_);
  }

 private:
  Tensor tokens_, position_ids_, dx_;
  Pack& table_;
  Pack* positions_;
};

void check_ids(const Tensor& ids, int64_t limit, const char* what, const char* advice) {
  const int32_t* id = ids.data<int32_t>();
  for (int64_t row = 0; row < ids.num_elements(); ++row)
    if (id[row] < 0 || id[row] >= limit)
      throw DataError("row {}: {} {} is outside the model's {}; {}", row, what, id[row], limit, advice);
}

}  // namespace

Var embedding(ForwardContext& context, const Tensor& tokens, Pack& table, Pack* positions) {
  const int64_t rows = tokens.num_elements();
  check_ids(tokens, table.rows, "token id", "the store was tokenised with another vocabulary");
  if (positions) {
    DF_ASSERT(context.rows.positions.num_elements() == rows && positions->cols == table.cols);
    check_ids(context.rows.positions, positions->rows, "position", "use shorter sequences");
  }
  Tensor x = context.empty({rows, table.cols}, DType::kF32);
  const Tensor table_values = context.store.acquire(table, Form::kMaster, context.stream);
  const Tensor position_values =
      positions ? context.store.acquire(*positions, Form::kMaster, context.stream) : Tensor();
  const cpu::EmbeddingRows a{tokens.data<int32_t>(),
                             positions ? context.rows.positions.data<int32_t>() : nullptr,
                             table_values.data<float>(),
                             positions ? position_values.data<float>() : nullptr,
                             table.cols,
                             x.data<float>()};
  auto* kernel = DF_KERNEL(context.runtime.isa(), embedding_forward);
  context.runtime.pool().parallel_for(rows, 1, [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  context.store.release(table);
  if (positions) context.store.release(*positions);
  if (!context.tape) return {std::move(x)};
  auto node = std::make_unique<EmbeddingNode>(tokens, table, positions ? context.rows.positions : Tensor(), positions);
  return context.tape->record(std::move(node), {}, std::move(x));
}

}  // namespace deepflow
