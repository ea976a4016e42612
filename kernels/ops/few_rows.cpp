#include "kernels/ops/few_rows.h"

#include "kernels/cpu/few_rows.h"
#include "kernels/ops/gemm_cache.h"

namespace deepflow {

bool few_rows_product(Runtime& runtime, GemmCache& cache, const Tensor& x, const Tensor& packed, int64_t n,
                      const Tensor* bias, Tensor& y) {
  if (x.rows() > cpu::kFewRows) return false;
  const int64_t panel_bytes = cache.panel_bytes(x.dtype(), x.cols(), n);
  if (panel_bytes == 0) return false;
  const cpu::FewRows a{x.raw(),      x.ld(),      x.rows(), x.cols(),
                       packed.raw(), panel_bytes, n,        bias ? bias->data<float>() : nullptr,
                       y.raw(),      y.dtype(),   y.ld()};
  auto* kernel =
      x.dtype() == DType::kBF16 ? DF_KERNEL(runtime.isa(), few_rows<BF16>) : DF_KERNEL(runtime.isa(), few_rows<float>);
  const int64_t panels = (n + cpu::kPanelColumns - 1) / cpu::kPanelColumns;
  runtime.pool().parallel_for(panels, 1, [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  return true;
}

}  // namespace deepflow
