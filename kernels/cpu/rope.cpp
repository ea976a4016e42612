#include "kernels/cpu/rope.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

template <class T>
void rope(const RopeRows<T>& a, int64_t begin, int64_t end) {
  const int64_t half = a.head_dim / 2;
  const F32 sign = splat(a.sign);
  for (int64_t row = begin; row < end; ++row) {
    const float *cos = a.cos + a.positions[row] * half, *sin = a.sin + a.positions[row] * half;
    for (int64_t head = 0; head < a.num_heads; ++head) {
      T *first = a.x + row * a.ld + head * a.head_dim, *second = first + half;
      for_each_vector(half, [&](int64_t j, auto lanes) {
        __builtin_prefetch(first + a.ld + j, 1);
        __builtin_prefetch(second + a.ld + j, 1);
        const F32 u = load(first + j, lanes), v = load(second + j, lanes);
        const F32 c = load(cos + j, lanes), s = load(sin + j, lanes) * sign;
        store(first + j, fnma(v, s, u * c), lanes);
        store(second + j, fma(u, s, v * c), lanes);
      });
    }
  }
}

template void rope(const RopeRows<float>&, int64_t, int64_t);
template void rope(const RopeRows<BF16>&, int64_t, int64_t);
template void rope(const RopeRows<F16>&, int64_t, int64_t);

}  // namespace deepflow::cpu::DF_ISA
