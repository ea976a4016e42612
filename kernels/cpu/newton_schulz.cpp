#include "kernels/cpu/newton_schulz.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

template <class T>
void blend(float a, T* x, float b, const float* y, int64_t n) {
  const F32 of_x = splat(a), of_y = splat(b);
  for_each_vector(
      n, [&](int64_t j, auto lanes) { store(x + j, fma(of_x, load(x + j, lanes), of_y * load(y + j, lanes)), lanes); });
}

}  // namespace

void blend_into(float a, void* x, DType dtype, float b, const float* y, int64_t n) {
  if (dtype == DType::kF32)
    blend(a, static_cast<float*>(x), b, y, n);
  else
    blend(a, static_cast<BF16*>(x), b, y, n);
}

}  // namespace deepflow::cpu::DF_ISA
