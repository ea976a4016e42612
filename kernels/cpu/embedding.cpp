#include "kernels/cpu/embedding.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

void embedding_forward(const EmbeddingRows& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* token = a.table + a.tokens[row] * a.cols;
    const float* position = a.positions ? a.positions + a.position_ids[row] * a.cols : nullptr;
    float* x = a.x + row * a.cols;
    for_each_vector(a.cols, [&](int64_t j, auto lanes) {
      F32 v = load(token + j, lanes);
      if (position) v = v + load(position + j, lanes);
      store(x + j, v, lanes);
    });
  }
}

void embedding_scatter(const float* dx, const int32_t* ids, int64_t rows, int64_t cols, float* table, int64_t begin,
                       int64_t end) {
  constexpr int64_t kAhead = 3;  // rows of the table lie anywhere: asked for early
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = dx + row * cols + begin;
    float* into = table + ids[row] * cols + begin;
    const float* soon = table + ids[row + kAhead < rows ? row + kAhead : row] * cols + begin;
    for_each_vector(end - begin, [&](int64_t j, auto lanes) {
      __builtin_prefetch(soon + j, 1);
      store(into + j, load(into + j, lanes) + load(from + j, lanes), lanes);
    });
  }
}

}  // namespace deepflow::cpu::DF_ISA
