#pragma once

#include "checkpoint/safetensors.h"
#include "core/name_map.h"
#include "core/parameter_registry.h"
#include "core/runtime.h"

#include <functional>
#include <string>
#include <vector>

namespace deepflow {

// One tensor of a foreign format beside the logical parameters that it is made of.
class ForeignTensor {
 public:
  // The entry's logical names must be in the registry.
  ForeignTensor(const NameMapEntry& entry, ParameterRegistry& registry);

  const std::string& name() const { return name_; }
  const std::vector<int64_t>& shape() const { return shape_; }  // as the foreign format has it
  std::vector<const Parameter*> parameters() const;             // that it is made of

  // Reads what of it is local into the parameters' values: `value` gives f32 [local shape], contiguous, of one
  // parameter after the other; when it is called for another one that before is complete. Content is read in pieces of
  // a few MB. The file's entry must have shape() and be f32, bf16 or f16.
  using LocalValue = std::function<Tensor(const Parameter&)>;
  void read(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry,
            const LocalValue& value) const;

  // What of it belongs to `p` alone; `local`: f32 [local shape] of p, contiguous.
  void read_part_of(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry, const Parameter& p,
                    const Tensor& local) const;

  // The whole tensor, f32 [shape()], out of whole logical values: `value` gives f32 [spec.shape], contiguous.
  using WholeValue = std::function<Tensor(const Parameter&)>;
  Tensor assemble(Runtime& runtime, const WholeValue& value) const;
  // One that remembers what `value` gave last: the tensors of a layer's experts are parts of the same parameters.
  static WholeValue remembering(WholeValue value);
  // Where another rank assembles: the same calls of `value`, whose results are dropped.
  void take_part(const WholeValue& value) const;

 private:
  struct Part {
    Parameter* parameter;
    int64_t row = 0, rows = 0;  // where it lies in the rows of [out, in]; a vector is a matrix of one column
  };

  void add_part(const std::string& logical, ParameterRegistry& registry);
  void read_part(Runtime& runtime, const SafetensorsFile& file, const SafetensorsEntry& entry, const Part& part,
                 const Tensor& local) const;
  int64_t first_matrix() const { return index_ < 0 ? 0 : index_; }

  std::string name_;
  bool transposed_;
  int64_t index_;         // of the experts' matrices the one that it is; -1: all
  int64_t matrices_ = 1;  // [out, in], one behind the other
  std::vector<Part> parts_;
  std::vector<int64_t> shape_;
  int64_t rows_ = 0, cols_ = 1;  // of each [out, in]
};

}  // namespace deepflow
