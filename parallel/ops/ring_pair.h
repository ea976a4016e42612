#pragma once

#include "kernels/ops/attention.h"
#include "parallel/ops/ring_plan.h"

#include <span>

namespace deepflow {

// One rank's rows in a ring attention. kv in what follows: keys and values [M, kv_heads * (head_dim + value_dim)] of
// the rank whose turn it is, in the compute dtype.
struct RingRows {
  AttentionShape shape;
  RowInfo rows;
  Tensor qkv, o;
  Tensor lse;  // f32, span of queries after span: [batch, heads, rows of the span]. Forward keeps the maxima in it
};

// The sums of the online softmax between two pairs.
struct RingSums {
  Tensor out;      // f32 [M, heads * value_dim]; may be the memory of o
  Tensor weights;  // f32, as lse
};

// Goes on with the softmax of the pair's queries; the pairs come in the order of the plan.
void ring_forward(Runtime& runtime, const RingRows& local, const RingPair& pair, const Tensor& kv, RingSums& sums);
// o and lse, after the last pair; largest as in `attention`.
void ring_forward_finish(Runtime& runtime, const RingRows& local, const std::vector<RingPair>& plan, RingSums& sums,
                         std::span<float> largest);
// Adds the pair's share to dq [M, heads * head_dim] and dkv, like kv; f32, any ld.
void ring_backward(Runtime& runtime, const RingRows& local, const RingPair& pair, const Tensor& kv, const Tensor& d_o,
                   Tensor& dq, Tensor& dkv);

}  // namespace deepflow
