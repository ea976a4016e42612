#pragma once

#include "core/autograd.h"
#include "core/dtype.h"
#include "core/parameter.h"
#include "core/random.h"
#include "core/runtime.h"
#include "core/statistics.h"
#include "core/stream.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace deepflow {

// Rows [first, first + count) of a whole sequence.
struct RowSpan {
  int64_t first, count;
};

// Rows of a forward pass: token-major, sequence after sequence. All of it describes the rows, never the ranks.
struct RowInfo {
  int64_t batch = 0;           // sequences
  int64_t sequence = 0;        // rows per sequence that are here; batch * sequence rows in all
  std::vector<RowSpan> spans;  // which rows of every whole sequence they are, ascending; empty: all of them
  Tensor positions;            // i32 [rows]: position for RoPE and learned positions
  Tensor document_start;       // i32 [rows]: first row of the same whole sequence that this row may attend to.
                               // Undefined: the whole sequence is one document
  Tensor row_ids;              // i64 [rows]: global token id (sample * sequence length + t), the key of dropout masks
  Tensor residual_ids;         // of the rows of the residual stream that are here; undefined: all, row_ids
  int64_t rows() const { return batch * sequence; }
  const Tensor& residual_row_ids() const { return residual_ids.defined() ? residual_ids : row_ids; }
};

// Numbers that the products of `linear` multiply, forward and for the input gradient.
enum class ProductPrecision : uint8_t {
  kCompute,  // the compute dtype
  kInt8,     // int8 in scaled blocks; the compute dtype is bf16 (kernels/ops/int8_matmul.h)
};

// What every forward takes. Without a tape nothing is recorded (evaluation, generation, the first pass of a
// recomputed segment).
struct ForwardContext {
  Runtime& runtime;
  Stream& stream;
  ParameterStore& store;
  Tape* tape = nullptr;
  DType compute = DType::kF32;  // operands and activations; the residual stream is f32
  ProductPrecision products = ProductPrecision::kCompute;
  bool training = false;
  bool selective = false;  // ops whose output costs only a pass over memory leave a recipe on it (Var::recipe)
  uint64_t seed = 0;
  int64_t step = 0;
  // Of losses that layers add to the model's (the balance of experts): what each sequence counts, 1 / sequences of the
  // step over all ranks, and the gradient of their sum (the loss scale). 0: there are none.
  float sequence_weight = 0;
  float loss_seed = 1;
  RowInfo rows = {};
  StatisticsSink* statistics = nullptr;
  class KeyValueCache* cache = nullptr;  // generation only (kernels/ops/attention.h)

  Tensor empty(const Shape& shape, DType dtype) const { return Tensor::empty(runtime.memory(), shape, dtype); }
  RandomSite random(std::string_view site) const { return random_site(seed, site, static_cast<uint64_t>(step)); }
};

// Runs `segment` without recording it and puts one node on the tape, whose backward runs it again on an inner tape.
// `segment` must be pure: it is called with a context of its own, statistics off in the replay.
using Segment = std::function<std::vector<Var>(ForwardContext&, std::span<const Var>)>;
std::vector<Var> recompute(ForwardContext& context, std::span<const Var> inputs, Segment segment);

}  // namespace deepflow
