#pragma once

#include "core/parameter_registry.h"
#include "core/runtime.h"
#include "kernels/ops/weight_panels.h"

#include <functional>
#include <map>

namespace deepflow {

// Which derived forms stay between steps. An input gradient's pack is a tenth of what AdamW training holds per
// parameter; made again for each use, from the master, it costs 6 bytes of memory traffic per parameter and
// micro-batch.
enum class FormsKept : uint8_t { kAll, kForward };

// Forms derived from masters, made on first use after a write and kept per (pack, form, version).
class FormCache {
 public:
  FormCache(Runtime& runtime, DType compute, FormsKept kept) : runtime_(runtime), compute_(compute), kept_(kept) {}

  // master(): f32 [physical_rows, cols], asked for only when the form has to be made. Not for Form::kMaster.
  Tensor acquire(const Pack& pack, Form form, const std::function<Tensor()>& master);
  // The packed forms that are in use, where somebody else may write all of them (kernels/ops/weight_panels.h).
  WeightPanels panels(const Pack& pack);
  void panels_written(const Pack& pack);  // at the pack's version of now
  void drop(const Pack& pack);            // its memory as well
  int64_t bytes() const;

 private:
  struct DerivedForm {
    Tensor value;
    uint64_t version = 0;
  };
  void derive(const Pack& pack, Form form, const Tensor& master, DerivedForm& derived);

  Runtime& runtime_;
  DType compute_;
  FormsKept kept_;
  std::map<std::pair<int, Form>, DerivedForm> forms_;
};

}  // namespace deepflow
