#pragma once

#include "core/runtime.h"
#include "kernels/cpu/adamw_8bit.h"
#include "kernels/ops/optimizer_update.h"

#include <array>
#include <vector>

namespace deepflow {

// Dettmers et al. 2022 (8-bit optimizers via block-wise quantization), section 2: values of a block are divided by the
// largest magnitude in it and rounded to the nearest of 256 codes of "dynamic" precision, seven decades with twice as
// many values in each as in the one below. A map with signs for the first moment; one without for the *root* of the
// second, which the denominator reads: its codes then reach 14 decades of squares, and a root that is not 0 is never
// rounded to 0. The update itself is in f32, with moments that were rounded when the step before ended.
class DynamicMap {
 public:
  explicit DynamicMap(bool has_sign);
  const cpu::CodeMap& codes() const { return map_; }
  DynamicMap(const DynamicMap&) = delete;
  DynamicMap& operator=(const DynamicMap&) = delete;

 private:
  std::array<float, 256> value_{};
  std::vector<float> middle_;
  std::array<uint8_t, cpu::kCoarse> coarse_{};
  cpu::CodeMap map_{};
};

// AdamW (kernels/ops/optimizer_update.h) of one block of at most cpu::kLargestBlock elements, on the calling thread. A
// scale of 0 says that all of the block's moments are 0, whatever their codes.
class Adamw8bitBlock {
 public:
  Adamw8bitBlock(const Runtime& runtime, const AdamwStep& step, const DynamicMap& first, const DynamicMap& second)
      : isa_(runtime.isa()), constants_(adamw_constants(step)), first_(first.codes()), second_(second.codes()) {}
  void operator()(float* master, const cpu::QuantisedMoments& moments, const float* gradient, int64_t n) const;

 private:
  CpuIsa isa_;
  cpu::AdamwConstants constants_;
  cpu::CodeMap first_, second_;
};

}  // namespace deepflow
