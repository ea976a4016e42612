#include "kernels/ops/pack_forms.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"

namespace deepflow {
namespace {

constexpr size_t kAlignment = 64;  // bytes: a group's form begins at a cache line

size_t group_stride(Runtime& runtime, const Pack& pack, DType compute, Form form) {
  const size_t bytes = packed_weight_bytes(runtime, compute, pack.group_rows(), pack.cols, form);
  return pack.groups == 1 ? bytes : (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The members' parts of group g one below the other.
Tensor matrix_of_group(Runtime& runtime, const Pack& pack, const Tensor& master, int64_t g) {
  const auto members = static_cast<int64_t>(pack.members.size());
  if (members == 1) return rows_of_group(pack, master, 0, g);
  Tensor matrix = Tensor::empty(runtime.memory(), {pack.group_rows(), pack.cols}, DType::kF32);
  const int64_t part = pack.group_rows() / members;
  for (int64_t m = 0; m < members; ++m) {
    Tensor place = matrix.row_range(m * part, (m + 1) * part);
    copy(runtime, rows_of_group(pack, master, m, g), place);
  }
  return matrix;
}

}  // namespace

int64_t form_bytes(Runtime& runtime, const Pack& pack, DType compute, Form form) {
  if (form == Form::kMaster || form == Form::kRowMajor)
    return pack.num_elements() * static_cast<int64_t>(size_of(form == Form::kMaster ? DType::kF32 : compute));
  return pack.groups * static_cast<int64_t>(group_stride(runtime, pack, compute, form));
}

Tensor empty_form(Runtime& runtime, const Pack& pack, DType compute, Form form) {
  if (form == Form::kRowMajor) return Tensor::empty(runtime.memory(), {pack.physical_rows, pack.cols}, compute);
  return Tensor::empty(runtime.memory(), {form_bytes(runtime, pack, compute, form)}, DType::kU8);
}

void derive_form(Runtime& runtime, const Pack& pack, const Tensor& master, DType compute, Form form, Tensor& value) {
  if (form == Form::kRowMajor) {
    copy(runtime, master, value);
    return;
  }
  if (pack.groups == 1) {
    pack_weight(runtime, master, compute, form, value);
    return;
  }
  if (lies_in_panels(runtime, pack, compute, form)) {
    auto* bytes = static_cast<BF16*>(value.raw());
    const bool forward = form == Form::kForward;
    write_panels(runtime, master, panels_of(pack, forward ? bytes : nullptr, forward ? nullptr : bytes));
    return;
  }
  const auto bytes = static_cast<int64_t>(packed_weight_bytes(runtime, compute, pack.group_rows(), pack.cols, form));
  for (int64_t g = 0; g < pack.groups; ++g) {
    Tensor packed = form_of_group(value, pack.groups, g).flat_range(0, bytes);
    pack_weight(runtime, matrix_of_group(runtime, pack, master, g), compute, form, packed);
  }
}

Tensor form_of_group(const Tensor& packed, int64_t groups, int64_t g) {
  const int64_t stride = packed.num_elements() / groups;
  return packed.flat_range(g * stride, (g + 1) * stride);
}

Tensor rows_of_group(const Pack& pack, const Tensor& master, int64_t member, int64_t g) {
  const int64_t part = pack.group_rows() / static_cast<int64_t>(pack.members.size());
  const int64_t begin = (member * pack.groups + g) * part;
  return master.row_range(begin, begin + part);
}

bool lies_in_panels(Runtime& runtime, const Pack& pack, DType compute, Form form) {
  const int64_t part = pack.group_rows() / static_cast<int64_t>(pack.members.size());
  if (pack.groups > 1 && part % kPanelBlock != 0) return false;
  return lies_in_panels(runtime, compute, pack.group_rows(), pack.cols, form);
}

WeightPanels panels_of(const Pack& pack, BF16* forward, BF16* input_grad) {
  return {pack.group_rows(), pack.cols, forward, input_grad, pack.groups, static_cast<int64_t>(pack.members.size())};
}

}  // namespace deepflow
