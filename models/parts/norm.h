#pragma once

#include "core/parameter_registry.h"
#include "kernels/ops/group_rms_norm.h"
#include "kernels/ops/norm.h"
#include "parallel/tensor_parallel.h"

#include <optional>
#include <string>

namespace deepflow {

// What flows between blocks: the residual stream x (f32) and the last layer's output that is still to be added to it
// (compute dtype). The next norm adds it in the same pass over memory.
struct Residual {
  Var x;
  std::optional<Var> delta;
};

// A norm's parameters and its application to the residual stream.
class Norm {
 public:
  enum class Kind : uint8_t {
    kRms,
    kRmsPlusOne,  // the parameter is the gain - 1 (Gemma)
    kLayer,       // has a bias
  };

  Norm(ParameterRegistry& registry, const std::string& name, Kind kind, int64_t width, float eps);

  // .residual is x + delta, .normed the norm of it.
  NormResult operator()(ForwardContext& context, const Residual& stream) const;

  // Sees the rows of the residual stream that this rank holds: gradients are partial where those are split.
  void follow_rows(const TensorParallel& tp);

 private:
  Pack* gain_;
  Pack* bias_ = nullptr;
  float eps_, gain_offset_;
};

// RMS norm apart from the residual stream, kind kRms or kRmsPlusOne: of a layer's output before that joins it (Gemma
// 2), of latent rows (DeepSeek-V2).
class OutputNorm {
 public:
  OutputNorm(ParameterRegistry& registry, const std::string& name, Norm::Kind kind, int64_t width, float eps);
  Var operator()(ForwardContext& context, const Var& output) const;
  void follow_rows(const TensorParallel& tp);  // as Norm
  // Each rank reads its result with some heads only: gradients are partial sums.
  void split_readers();

 private:
  Pack* gain_;
  float eps_, gain_offset_;
};

// RMS norm of every query and key over its head's columns, before rotary positions (Qwen3): all query heads share
// NAME.q_norm.weight [head_dim], all key heads NAME.k_norm.weight.
class QueryKeyNorm {
 public:
  QueryKeyNorm(ParameterRegistry& registry, const std::string& name, int64_t head_dim, float eps);

  // qkv: `heads` queries, `kv_heads` keys and as many values side by side; in place.
  Var operator()(ForwardContext& context, const Var& qkv, int64_t heads, int64_t kv_heads) const;

  // Each rank has some heads: gradients are partial sums.
  void split_heads();

 private:
  Pack* gains_;
  int64_t head_dim_;
  float eps_;
};

}  // namespace deepflow
