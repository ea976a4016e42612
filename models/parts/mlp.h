#pragma once

#include "kernels/ops/activation.h"
#include "models/parts/dense.h"

#include <string>

namespace deepflow {

struct MlpOptions {
  int64_t width = 0, ffn = 0;
  bool bias = false;
  float stddev = 0.02f, out_stddev = 0.02f;
};

// down(gelu(up(x))): Vaswani et al. 2017, section 3.3, with the activation of Hendrycks & Gimpel 2016.
class GeluMlp {
 public:
  GeluMlp(ParameterRegistry& registry, const std::string& name, const MlpOptions& options, GeluKind kind);
  Var operator()(ForwardContext& context, const Var& x) const;
  void split_features(const TensorParallel& tp);

 private:
  int64_t ffn_;
  GeluKind kind_;
  Dense up_, down_;
};

// down(activation(gate(x)) * up(x)): Shazeer 2020. gate and up are one pack.
class GatedMlp {
 public:
  using Activation = Var (*)(ForwardContext& context, const Var& gate_up);
  GatedMlp(ParameterRegistry& registry, const std::string& name, const MlpOptions& options, Activation activation);
  Var operator()(ForwardContext& context, const Var& x) const;
  void split_features(const TensorParallel& tp);

 private:
  int64_t ffn_;
  Activation activation_;
  Dense gate_up_, down_;
};

struct SwigluMlp : GatedMlp {
  SwigluMlp(ParameterRegistry& registry, const std::string& name, const MlpOptions& options)
      : GatedMlp(registry, name, options, swiglu) {}
};

struct GegluMlp : GatedMlp {
  GegluMlp(ParameterRegistry& registry, const std::string& name, const MlpOptions& options)
      : GatedMlp(registry, name, options, geglu) {}
};

}  // namespace deepflow
