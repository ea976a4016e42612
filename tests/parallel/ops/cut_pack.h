#pragma once

#include "parallel/ops/deal.h"
#include "tests/kernels/test_store.h"
#include "tests/parallel/mpi_test.h"

#include <string>
#include <vector>

namespace deepflow::testing {

inline Tensor rows_of_rank(const Tensor& t, int rank, int num_ranks) { return Deal{t.rows(), num_ranks}.part(t, rank); }
inline Tensor columns_of_rank(const Tensor& t, int rank, int num_ranks) {
  const Deal deal{t.cols(), num_ranks};
  return t.column_range(deal.first(rank), deal.first(rank + 1));
}

// This rank's part of the whole matrix `values` in a pack of its own: rows (dim 0) or columns (dim 1), dealt out.
inline Pack& add_part(OpBench& bench, const std::string& name, const Tensor& values, int dim, Role role, int rank,
                      int num_ranks) {
  const Tensor part = dim == 0 ? rows_of_rank(values, rank, num_ranks) : columns_of_rank(values, rank, num_ranks);
  Pack& pack = bench.store.add(name, {part.rows(), part.cols()}, role);
  Parameter& parameter = *pack.members.front();
  parameter.spec.shape = {values.rows(), values.cols()};
  parameter.spec.placement = {{dim, {"tp"}, dim == 0 ? values.rows() : values.cols(), false}};
  parameter.boxes = local_boxes(parameter.spec, {{"tp", rank, num_ranks}});
  Tensor master = bench.store.master(pack).row_range(0, part.rows());
  copy(bench.runtime, part, master);
  return pack;
}

// How the ops of tensor parallelism are run.
struct TensorLayout {
  bool sequence, overlap;
};
inline std::vector<TensorLayout> tensor_layouts() { return {{false, true}, {true, false}, {true, true}}; }
inline TensorParallel tensor_parallel(const TensorLayout& layout) {
  return {&test_world().all(), layout.sequence, layout.overlap};
}
inline std::string describe(const TensorLayout& layout, DType dtype, int64_t rows) {
  return fmt::format("{} rows of {}{}{}", rows, name_of(dtype), layout.sequence ? ", sequence" : "",
                     layout.overlap ? ", overlap" : "");
}

// The sum over all ranks, element by element.
inline std::vector<double> summed(const std::vector<double>& values) {
  return sum_doubles(test_world().all(), values, "sum");
}

inline double error_of(const Tensor& got, const Tensor& expected) {
  return relative_error(values_of(got), values_of(expected));
}

}  // namespace deepflow::testing
