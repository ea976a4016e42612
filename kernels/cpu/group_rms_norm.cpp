#include "kernels/cpu/group_rms_norm.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

template <class T>
void group_rms_norm_forward(const GroupNormForward<T>& a, int64_t begin, int64_t end) {
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  const F32 offset = splat(a.gain_offset);
  for (int64_t row = begin; row < end; ++row)
    for (int64_t group = 0; group < a.groups; ++group) {
      const T* x = a.x + row * a.ld_x + group * a.cols;
      T* y = a.y + row * a.ld_y + group * a.cols;
      T* kept = a.kept ? a.kept + row * a.ld_kept + group * a.cols : nullptr;
      ChainedSum squares;
      for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
        const F32 v = load(x + j, lanes);
        if (kept) store(kept + j, v, lanes);
        squares.part[chain] = fma(v, v, squares.part[chain]);
      });
      const F32 inverse = splat(1.0f / __builtin_sqrtf(squares.total() * inverse_cols + a.eps));
      for_each_vector(a.cols, [&](int64_t j, auto lanes) {
        store(y + j, load(x + j, lanes) * inverse * (load(a.gain + j, lanes) + offset), lanes);
      });
    }
}

template <class T>
void group_rms_norm_backward(const GroupNormBackward<T>& a, int64_t begin, int64_t end) {
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  const F32 offset = splat(a.gain_offset);
  for_each_vector(a.cols, [&](int64_t j, auto lanes) { store(a.partial + j, zero(), lanes); });
  for (int64_t row = begin; row < end; ++row)
    for (int64_t group = 0; group < a.groups; ++group) {
      const T *x = a.x + row * a.ld_x + group * a.cols, *dy = a.dy + row * a.ld_dy + group * a.cols;
      T* dx = a.dx + row * a.ld_dx + group * a.cols;
      ChainedSum squares, products;
      for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
        const F32 v = load(x + j, lanes), dn = load(dy + j, lanes) * (load(a.gain + j, lanes) + offset);
        squares.part[chain] = fma(v, v, squares.part[chain]);
        products.part[chain] = fma(v, dn, products.part[chain]);
      });
      const float scale = 1.0f / __builtin_sqrtf(squares.total() * inverse_cols + a.eps);
      const F32 inverse = splat(scale), mean_product = splat(products.total() * scale * inverse_cols);
      for_each_vector(a.cols, [&](int64_t j, auto lanes) {
        const F32 n = load(x + j, lanes) * inverse, g = load(dy + j, lanes);
        store(a.partial + j, fma(g, n, load(a.partial + j, lanes)), lanes);
        store(dx + j, fnma(n, mean_product, g * (load(a.gain + j, lanes) + offset)) * inverse, lanes);
      });
    }
}

#define DF_INSTANTIATE(T)                                                             \
  template void group_rms_norm_forward(const GroupNormForward<T>&, int64_t, int64_t); \
  template void group_rms_norm_backward(const GroupNormBackward<T>&, int64_t, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(BF16)
DF_INSTANTIATE(F16)

}  // namespace deepflow::cpu::DF_ISA
