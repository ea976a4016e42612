#pragma once

#include "core/context.h"

#include <cstdint>

namespace deepflow {

// What `head_loss` and its form over ranks (parallel/ops/vocabulary_head_loss.h) are made of.

// Tokens whose logits are made at once. 256 to 1024 cost the same, fewer cost GEMM speed; elsewhere every chunk also
// reads and writes the whole weight gradient.
inline int64_t head_chunk_rows(DType dtype) { return dtype == DType::kBF16 ? 256 : 512; }

// The columns [first, first + count) of the vocabulary, which a head pack holds as its rows.
struct HeadColumns {
  int64_t first, count;
};

struct HeadLabels {
  Tensor labels, weights;  // i32 and f32 [M]
  int64_t of(int64_t row) const { return labels.data<int32_t>()[row]; }
  float weight(int64_t row) const { return of(row) < 0 ? 0.0f : weights.data<float>()[row]; }
  // The column of the row's label among `columns`; -1: it is none of them.
  int64_t column(int64_t row, const HeadColumns& columns) const {
    const int64_t c = of(row) - columns.first;
    return of(row) >= 0 && c >= 0 && c < columns.count ? c : -1;
  }
};

// Logits [rows, physical] = x W^T of the rows of x, `packed` being the head's Form::kForward; with softcap c > 0 they
// become c * tanh(logit / c).
void head_products(Runtime& runtime, const Pack& head, const Tensor& packed, const Tensor& x, float softcap,
                   Tensor& logits);

// Throws DataError for a label outside -1 .. vocabulary - 1.
void check_labels(const HeadLabels& labels, int64_t rows, int64_t vocabulary);
float logit_at(const Tensor& logits, int64_t row, int64_t column);

// Overwrites logits [rows, physical], the rows from `first` on of the whole, with the gradient seed * weight *
// (softmax - onehot(label)), back through the soft cap; zero in the padding and in rows that do not count. log_sums
// belongs to the row `first`.
void cross_entropy_gradient(Runtime& runtime, Tensor& logits, const HeadLabels& labels, int64_t first,
                            const HeadColumns& columns, float seed, const float* log_sums, float softcap);

// f32 [1]: the sum over rows of weight * nll.
Tensor total_loss(ForwardContext& context, const HeadLabels& labels, const Tensor& nll);
inline float loss_seed(const Grad& grad) { return grad.value.data<float>()[0]; }

// dx [M, D] = dlogits [M, physical] W.
Tensor head_input_gradient(BackwardContext& context, Pack& head, const Tensor& dlogits);
// dx, and the weight gradient on the way, from logits that are computed again chunk by chunk.
Tensor recomputed_head_gradients(BackwardContext& context, Pack& head, const Tensor& x, const HeadLabels& labels,
                                 const HeadColumns& columns, float seed, const Tensor& log_sums, float softcap);

}  // namespace deepflow
