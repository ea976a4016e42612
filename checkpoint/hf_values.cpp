#include "checkpoint/hf_values.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"

namespace deepflow {

HfValues::HfValues(Runtime& runtime, const HfFolder& folder, const ForeignNames& names, ParameterRegistry& registry)
    : runtime_(runtime), matches_(folder.match(names, registry, HfFolder::Lacking::kBuffers)) {
  for (size_t i = 0; i < matches_.size(); ++i)
    for (const Parameter* p : matches_[i].tensor.parameters()) of_parameter_[p].push_back(i);
}

Tensor HfValues::operator()(const Parameter& p) const {
  Tensor value = Tensor::empty(runtime_.memory(), p.spec.shape, DType::kF32);
  const auto found = of_parameter_.find(&p);
  if (found == of_parameter_.end()) {
    DF_ASSERT(p.spec.init.kind == Initialiser::Kind::kConstant, "{} was not in the folder", p.spec.name);
    fill(runtime_, value, p.spec.init.value);
    return value;
  }
  for (const size_t i : found->second) {
    const HfFolder::Match& m = matches_[i];
    m.tensor.read_part_of(runtime_, *m.file, *m.entry, p, value);
  }
  return value;
}

DType HfValues::dtype(const Parameter& p) const {
  const auto found = of_parameter_.find(&p);
  return found == of_parameter_.end() ? DType::kF32 : *matches_[found->second.front()].entry->dtype();
}

}  // namespace deepflow
