#pragma once

#include "optim/optimizer.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace deepflow {

// Rows and columns of one logical matrix that one rank has. A vector is a matrix of one column; an expert is one of the
// matrices of its parameter.
struct MatrixPart {
  int rank = 0;  // in GradientDomains::world
  int64_t row_begin = 0, row_end = 0, col_begin = 0, col_end = 0;
  int64_t rows() const { return row_end - row_begin; }
  int64_t cols() const { return col_end - col_begin; }
  int64_t num_elements() const { return rows() * cols(); }
};

// Ranks whose pieces together are one logical matrix, each element once. Where several ranks have the same part
// (replicas, heads that neighbours share) there are as many sets, and every rank is in one of them.
struct MatrixSet {
  const Parameter* parameter = nullptr;
  int64_t rows = 0, cols = 0;     // logical
  std::vector<MatrixPart> parts;  // by columns, then rows
  int owner = 0;                  // the rank that works on the whole: its turn by work dealt so far
  int64_t turn = 0;               // how many whole matrices the owner has before this one, of those that are split
  size_t mine = 0;                // of parts
  size_t piece = 0;               // of the domain, and where in it this rank's part begins
  int64_t begin = 0;
  const MatrixPart& part() const { return parts[mine]; }
  bool is_split() const { return parts.size() > 1; }
};

// The sets that this rank is in, of the parameters that `selects` names, in an order that all ranks share. work: what
// owning a matrix of so many rows and columns costs. Collective over domain.domains, where there are any.
std::vector<MatrixSet> find_matrix_sets(const OptimizerDomain& domain,
                                        const std::function<bool(const Parameter&)>& selects,
                                        const std::function<double(int64_t rows, int64_t cols)>& work);

}  // namespace deepflow
