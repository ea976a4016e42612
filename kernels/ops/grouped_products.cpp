#include "kernels/ops/grouped_products.h"

#include "core/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/grouped_panels.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/pack_forms.h"

namespace deepflow {
namespace {

// oneDNN makes a primitive for every new number of rows: they are cut into powers of two, and what is left below 16.
constexpr int64_t kMostRows = 512, kLeastRows = 16;

// f(begin, end) for the pieces of rows [begin, end).
template <class F>
void for_each_piece(int64_t begin, int64_t end, F&& f) {
  int64_t size = kMostRows;
  while (begin < end) {
    while (size > end - begin && size > kLeastRows) size /= 2;
    const int64_t next = size <= end - begin ? begin + size : end;
    f(begin, next);
    begin = next;
  }
}

}  // namespace

void grouped_product(Runtime& runtime, const Tensor& a, const RowGroups& rows, const Tensor& packed, Tensor& c) {
  if (grouped_panel_product(runtime, a, rows, packed, c)) return;
  const int64_t groups = rows.num_groups();
  for (int64_t g = 0; g < groups; ++g) {
    const Tensor mine = form_of_group(packed, groups, g);
    for_each_piece(rows.first(g), rows.end(g), [&](int64_t begin, int64_t end) {
      Tensor to = c.row_range(begin, end);
      matmul_forward(runtime, a.row_range(begin, end), mine, c.cols(), nullptr, to);
    });
  }
}

void grouped_weight_grad(Runtime& runtime, const Tensor& dy, const Tensor& x, const RowGroups& rows, const Pack& weight,
                         GradientTarget& dw) {
  if (grouped_panel_weight_grad(runtime, dy, x, rows, weight, dw)) return;
  const auto members = static_cast<int64_t>(weight.members.size());
  const int64_t part = weight.group_rows() / members;
  for (int64_t g = 0; g < weight.groups; ++g)
    for (int64_t m = 0; m < members; ++m) {
      GradientTarget target{rows_of_group(weight, dw.value, m, g), dw.accumulate};
      if (rows.size(g) == 0 && !target.accumulate) fill(runtime, target.value, 0);
      for_each_piece(rows.first(g), rows.end(g), [&](int64_t begin, int64_t end) {
        const Tensor dy_part = dy.row_range(begin, end).column_range(m * part, (m + 1) * part);
        matmul_weight_grad(runtime, dy_part, x.row_range(begin, end), target);
        target.accumulate = true;
      });
    }
}

}  // namespace deepflow
