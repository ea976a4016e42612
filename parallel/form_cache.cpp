#include "parallel/form_cache.h"

#include "kernels/ops/pack_forms.h"

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
  if (!derived.value.defined()) derived.value = empty_form(runtime_, pack, compute_, form);
  if (form == Form::kForward || form == Form::kInputGrad) {
    // One pass over the master serves both.
    if (const WeightPanels both = panels(pack); both.forward && both.input_grad) {
      write_panels(runtime_, master, both);
      panels_written(pack);
      return;
    }
  }
  derive_form(runtime_, pack, master, compute_, form, derived.value);
  derived.version = pack.version;
}

WeightPanels FormCache::panels(const Pack& pack) {
  WeightPanels panels = panels_of(pack, nullptr, nullptr);
  for (const Form form : {Form::kForward, Form::kInputGrad}) {
    const auto known = forms_.find({pack.id, form});
    if (known == forms_.end()) continue;
    if (!lies_in_panels(runtime_, pack, compute_, form)) return {};
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
