#pragma once

#include "checkpoint/hf_folder.h"

#include <map>
#include <vector>

namespace deepflow {

// The parameters of a Hugging Face folder, read one at a time when they are asked for: std::ref of it is a
// ForeignTensor::WholeValue, for writing another file without a session or memory for the model.
class HfValues {
 public:
  // registry: frozen on one rank. All of it must be in the folder but buffers, which then have their initial value.
  // Everything outlives this. Throws one DataError that lists what does not fit.
  HfValues(Runtime& runtime, const HfFolder& folder, const ForeignNames& names, ParameterRegistry& registry);

  Tensor operator()(const Parameter& p) const;  // f32 [spec.shape]
  DType dtype(const Parameter& p) const;        // that it has in the folder

 private:
  Runtime& runtime_;
  std::vector<HfFolder::Match> matches_;
  std::map<const Parameter*, std::vector<size_t>> of_parameter_;  // indices of matches
};

}  // namespace deepflow
