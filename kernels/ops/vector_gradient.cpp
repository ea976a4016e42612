#include "kernels/ops/vector_gradient.h"

#include <algorithm>

namespace deepflow {

void add_parts(Runtime& runtime, const Tensor& parts, Tensor& sum) {
  const float* p = parts.data<float>();
  float* s = sum.data<float>();
  const int64_t n = parts.cols();
  runtime.pool().parallel_for(n, 1024, [&](int64_t begin, int64_t end) {
    std::copy(p + begin, p + end, s + begin);
    for (int64_t row = 1; row < parts.rows(); ++row)
      for (int64_t j = begin; j < end; ++j) s[j] += p[row * n + j];
  });
}

void contribute_vector(BackwardContext& context, Pack& pack, const float* value, int64_t n) {
  GradientTarget target = context.store.gradient(pack);
  float* into = target.value.data<float>();
  if (target.accumulate)
    for (int64_t j = 0; j < n; ++j) into[j] += value[j];
  else
    std::copy(value, value + n, into);
  context.store.contributed(pack);
}

}  // namespace deepflow
