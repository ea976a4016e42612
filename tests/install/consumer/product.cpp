#include "core/runtime.h"
#include "core/tensor.h"
#include "kernels/ops/matmul.h"

#include <cstdio>

using deepflow::DType;
using deepflow::Tensor;

// [1 2; 3 4; 5 6] [7 8 9; 10 11 12] with the installed library; fails unless the product is right.
int main() {
  deepflow::Runtime runtime;
  float left[] = {1, 2, 3, 4, 5, 6}, right[] = {7, 8, 9, 10, 11, 12};
  const float expected[] = {27, 30, 33, 61, 68, 75, 95, 106, 117};
  const Tensor a = Tensor::wrap(left, {3, 2}, DType::kF32), b = Tensor::wrap(right, {2, 3}, DType::kF32);
  Tensor c = Tensor::empty(runtime.memory(), {3, 3}, DType::kF32);
  deepflow::matmul(runtime, a, b, c);
  for (int i = 0; i < 9; ++i) {
    const float got = c.data<float>()[i];
    if (got != expected[i]) {
      std::fprintf(stderr, "element %d of the product is %g, not %g\n", i, got, expected[i]);
      return 1;
    }
  }
  std::printf("product of %s and %s is right\n", a.shape().to_string().c_str(), b.shape().to_string().c_str());
  return 0;
}
