#include "kernels/ops/embedding_rows.h"

#include "core/error.h"
#include "kernels/cpu/embedding.h"
#include "kernels/ops/elementwise.h"

namespace deepflow {
namespace {

void check_ids(const Tensor& ids, int64_t limit, const char* what, const char* advice) {
  const int32_t* id = ids.data<int32_t>();
  for (int64_t row = 0; row < ids.num_elements(); ++row)
    if (id[row] < 0 || id[row] >= limit)
      throw DataError("row {}: {} {} is outside the model's {}; {}", row, what, id[row], limit, advice);
}

}  // namespace

void check_token_ids(const Tensor& ids, int64_t limit) {
  check_ids(ids, limit, "token id", "the store was tokenised with another vocabulary");
}

void check_positions(const Tensor& ids, int64_t limit) { check_ids(ids, limit, "position", "use shorter sequences"); }

void read_rows(Runtime& runtime, const TableRows& values, const TableRows* places, Tensor& x) {
  DF_ASSERT(x.is_contiguous() && x.cols() == values.table.cols(), "{}", x.shape().to_string());
  const cpu::EmbeddingRows a{values.ids.data<int32_t>(),
                             places ? places->ids.data<int32_t>() : nullptr,
                             values.table.data<float>(),
                             places ? places->table.data<float>() : nullptr,
                             x.cols(),
                             x.data<float>()};
  auto* kernel = DF_KERNEL(runtime.isa(), embedding_forward);
  runtime.pool().parallel_for(x.rows(), 1, [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

void scatter_gradient(BackwardContext& context, Pack& pack, const Tensor& ids, const Tensor& dx) {
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

}  // namespace deepflow
