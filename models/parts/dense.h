#pragma once

#include "core/context.h"
#include "core/parameter_registry.h"
#include "parallel/tensor_parallel.h"

#include <string>
#include <vector>

namespace deepflow {

// y = x W^T (+ b), declared and applied: one logical matrix per output, all of them in one pack, so that one GEMM reads
// them side by side (q|k|v, gate|up). Biases are packed likewise.
class Dense {
 public:
  struct Output {
    std::string name;  // "layers.0.attention.q": NAME.weight [width, in] and NAME.bias [width]
    int64_t width;
  };
  struct Options {
    int64_t in = 0;
    bool bias = false;
    float stddev = 0.02f;  // of the initial weights; biases start at 0
  };
  // `pack` names the packs when there are several outputs.
  Dense(ParameterRegistry& registry, const std::string& pack, const std::vector<Output>& outputs,
        const Options& options);
  Dense(ParameterRegistry& registry, const std::string& name, int64_t width, const Options& options)
      : Dense(registry, name, {{name, width}}, options) {}

  Var operator()(ForwardContext& context, const Var& x) const;

  // Each rank makes some of the outputs of every matrix, units[i] of matrix i dealt over the ranks (heads; features).
  void split_outputs(const TensorParallel& tp, const std::vector<int64_t>& units);
  // The same for rows that every rank has and whose gradients are summed elsewhere: the product is that of one rank.
  void deal_outputs(const std::vector<int64_t>& units);
  // Sees only the rows of the residual stream that this rank holds: gradients are partial over tp.
  void follow_rows();
  // Each rank has some of the inputs, and the ranks add up.
  void split_inputs(const TensorParallel& tp, int64_t units);

  Pack& weight() const { return *weight_; }
  Pack* bias() const { return bias_; }  // null: there is none

 private:
  enum class Split : uint8_t { kNone, kOutputs, kInputs };

  Pack* weight_;
  Pack* bias_ = nullptr;
  Split split_ = Split::kNone;
  const TensorParallel* tp_ = nullptr;
};

}  // namespace deepflow
