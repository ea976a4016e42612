#include "kernels/cpu/rms_norm.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

template <class T>
void rms_norm_forward(const NormForward<T>& a, int64_t begin, int64_t end) {
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  const F32 offset = splat(a.gain_offset);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = a.x + row * a.cols;
    T* y = a.y + row * a.cols;
    ChainedSum squares;
    if (a.delta) {
      const T* delta = a.delta + row * a.cols;
      float* r = a.r + row * a.cols;
      for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
        const F32 v = load(x + j, lanes) + load(delta + j, lanes);
        store(r + j, v, lanes);
        squares.part[chain] = fma(v, v, squares.part[chain]);
      });
      x = r;
    } else {
      for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
        const F32 v = load(x + j, lanes);
        squares.part[chain] = fma(v, v, squares.part[chain]);
      });
    }
    const float inverse = 1.0f / __builtin_sqrtf(squares.total() * inverse_cols + a.eps);
    const F32 scale = splat(inverse);
    for_each_vector(a.cols, [&](int64_t j, auto lanes) {
      store(y + j, load(x + j, lanes) * scale * (load(a.gain + j, lanes) + offset), lanes);
    });
    a.statistics[row] = inverse;
  }
}

template <class T>
void rms_norm_backward(const NormBackward<T>& a, int64_t begin, int64_t end) {
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  const F32 offset = splat(a.gain_offset);
  for_each_vector(a.cols, [&](int64_t j, auto lanes) { store(a.partial + j, zero(), lanes); });
  for (int64_t row = begin; row < end; ++row) {
    const float* r = a.r + row * a.cols;
    const T* dy = a.dy + row * a.cols;
    const F32 inverse = splat(a.statistics[row]);
    ChainedSum product;
    for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
      const F32 g = load(dy + j, lanes), n = load(r + j, lanes) * inverse;
      store(a.partial + j, fma(g, n, load(a.partial + j, lanes)), lanes);
      product.part[chain] = fma(g * (load(a.gain + j, lanes) + offset), n, product.part[chain]);
    });
    const F32 mean_product = splat(product.total() * inverse_cols);
    for_each_vector(a.cols, [&](int64_t j, auto lanes) {
      const F32 n = load(r + j, lanes) * inverse, dn = load(dy + j, lanes) * (load(a.gain + j, lanes) + offset);
      F32 dx = fnma(n, mean_product, dn) * inverse;
      if (a.dr) dx = dx + load(a.dr + row * a.cols + j, lanes);
      store(a.dx + row * a.cols + j, dx, lanes);
      if (a.ddelta) store(a.ddelta + row * a.cols + j, dx, lanes);
    });
  }
}

template void rms_norm_forward(const NormForward<float>&, int64_t, int64_t);
template void rms_norm_forward(const NormForward<BF16>&, int64_t, int64_t);
template void rms_norm_forward(const NormForward<F16>&, int64_t, int64_t);
template void rms_norm_backward(const NormBackward<float>&, int64_t, int64_t);
template void rms_norm_backward(const NormBackward<BF16>&, int64_t, int64_t);
template void rms_norm_backward(const NormBackward<F16>&, int64_t, int64_t);

}  // namespace deepflow::cpu::DF_ISA
