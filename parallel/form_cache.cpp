#include "parallel/form_cache.h"

#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"

namespace deepflow {
namespace {

bool is_for_input_grad(Form form) { return form == Form::kInputGrad || form == Form::kInputGradInt8; }

}  // namespace

Tensor FormCache::acquire(const Pack& pack, Form form, const std::function<Tensor()>& master) {
  if (is_for_input_grad(form) && kept_ == FormsKept::kForward) {
    DerivedForm transient;
    derive(pack, form, master(), transient);
    return transient.value;
  }
  DerivedForm& derived = forms_[{pack.id, form}];
  if (derived.version != pack.version) derive(pack, form, master(), derived);
  return derived.value;
}

void FormCache::derive(const Pack& pack, Form form, const Tensor& master, DerivedForm& derived) {
  if (!derived.value.defined()) {
    if (form == Form::kRowMajor)
      derived.value = Tensor::empty(runtime_.memory(), master.shape(), compute_);
    else
      derived.value = Tensor::empty(
          runtime_.memory(),
          {static_cast<int64_t>(packed_weight_bytes(runtime_, compute_, pack.physical_rows, pack.cols, form))},
          DType::kU8);
  }
  if (form == Form::kForward || form == Form::kInputGrad) {
    // One pass over the master serves both.
    if (const WeightPanels both = panels(pack); both.forward && both.input_grad) {
      write_panels(runtime_, master, both);
      panels_written(pack);
      return;
    }
  }
  if (form == Form::kRowMajor)
    copy(runtime_, master, derived.value);
  else
    pack_weight(runtime_, master, compute_, form, derived.value);
  derived.version = pack.version;
}

WeightPanels FormCache::panels(const Pack& pack) {
  WeightPanels panels{pack.physical_rows, pack.cols};
  for (const Form form : {Form::kForward, Form::kInputGrad}) {
    const auto known = forms_.find({pack.id, form});
    if (known == forms_.end()) continue;
    if (!lies_in_panels(runtime_, compute_, pack.physical_rows, pack.cols, form)) return {};
    (form == Form::kForward ? panels.forward : panels.input_grad) = static_cast<BF16*>(known->second.value.raw());
  }
  return panels;
}

void FormCache::panels_written(const Pack& pack) {
  for (const Form form : {Form::kForward, Form::kInputGrad})
    if (const auto known = forms_.find({pack.id, form}); known != forms_.end()) known->second.version = pack.version;
}

void FormCache::drop(const Pack& pack) {
  forms_.erase(forms_.lower_bound({pack.id, Form::kMaster}), forms_.lower_bound({pack.id + 1, Form::kMaster}));
}

int64_t FormCache::bytes() const {
  int64_t sum = 0;
  for (const auto& [key, form] : forms_) sum += static_cast<int64_t>(form.value.num_bytes());
  return sum;
}

}  // namespace deepflow
