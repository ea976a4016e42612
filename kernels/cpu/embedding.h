#pragma once

#include "kernels/cpu/isa.h"

#include <cstdint>

namespace deepflow::cpu {

// positions and its ids may be null.
struct EmbeddingRows {
  const int32_t *tokens, *position_ids;  // [rows]
  const float *table, *positions;        // [.., cols]
  int64_t cols;
  float* x;  // [rows, cols]
};

DF_DECLARE_KERNELS(void embedding_forward(const EmbeddingRows& a, int64_t begin, int64_t end);
                   // table[ids[row]] += dx[row] for every row in order, in columns [begin, end).
                   void embedding_scatter(const float* dx, const int32_t* ids, int64_t rows, int64_t cols, float* table,
                                          int64_t begin, int64_t end);)

}  // namespace deepflow::cpu
