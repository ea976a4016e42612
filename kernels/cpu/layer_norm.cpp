#include "kernels/cpu/layer_norm.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {

template <class T>
void layer_norm_forward(const NormForward<T>& a, int64_t begin, int64_t end) {
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = a.x + row * a.cols;
    T* y = a.y + row * a.cols;
    ChainedSum sum, squares;
    if (a.delta) {
      const T* delta = a.delta + row * a.cols;
      float* r = a.r + row * a.cols;
      for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
        const F32 v = load(x + j, lanes) + load(delta + j, lanes);
        store(r + j, v, lanes);
        sum.part[chain] = sum.part[chain] + v;
      });
      x = r;
    } else {
      for_each_chained_vector(
          a.cols, [&](int64_t j, auto lanes, int chain) { sum.part[chain] = sum.part[chain] + load(x + j, lanes); });
    }
    const float row_mean = sum.total() * inverse_cols;
    const F32 mean = splat(row_mean);
    for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
      const F32 d = keep_lanes(load(x + j, lanes) - mean, lanes, zero());
      squares.part[chain] = fma(d, d, squares.part[chain]);
    });
    const float inverse = 1.0f / __builtin_sqrtf(squares.total() * inverse_cols + a.eps);
    const F32 scale = splat(inverse);
    for_each_vector(a.cols, [&](int64_t j, auto lanes) {
      F32 v = (load(x + j, lanes) - mean) * scale * load(a.gain + j, lanes);
      if (a.bias) v = v + load(a.bias + j, lanes);
      store(y + j, v, lanes);
    });
    a.statistics[2 * row] = row_mean;
    a.statistics[2 * row + 1] = inverse;
  }
}

template <class T>
void layer_norm_backward(const NormBackward<T>& a, int64_t begin, int64_t end) {
  const float inverse_cols = 1.0f / static_cast<float>(a.cols);
  float *dgain = a.partial, *dbias = a.partial + a.cols;
  for_each_vector(2 * a.cols, [&](int64_t j, auto lanes) { store(a.partial + j, zero(), lanes); });
  for (int64_t row = begin; row < end; ++row) {
    const float* r = a.r + row * a.cols;
    const T* dy = a.dy + row * a.cols;
    const F32 mean = splat(a.statistics[2 * row]), inverse = splat(a.statistics[2 * row + 1]);
    ChainedSum sum, product;
    for_each_chained_vector(a.cols, [&](int64_t j, auto lanes, int chain) {
      const F32 g = load(dy + j, lanes), n = (load(r + j, lanes) - mean) * inverse;
      const F32 dn = g * load(a.gain + j, lanes);
      store(dgain + j, fma(g, n, load(dgain + j, lanes)), lanes);
      store(dbias + j, g + load(dbias + j, lanes), lanes);
      sum.part[chain] = sum.part[chain] + dn;
      product.part[chain] = fma(dn, n, product.part[chain]);
    });
    const F32 mean_dn = splat(sum.total() * inverse_cols), mean_product = splat(product.total() * inverse_cols);
    for_each_vector(a.cols, [&](int64_t j, auto lanes) {
      const F32 n = (load(r + j, lanes) - mean) * inverse, dn = load(dy + j, lanes) * load(a.gain + j, lanes);
      F32 dx = (dn - fma(n, mean_product, mean_dn)) * inverse;
      if (a.dr) dx = dx + load(a.dr + row * a.cols + j, lanes);
      store(a.dx + row * a.cols + j, dx, lanes);
      if (a.ddelta) store(a.ddelta + row * a.cols + j, dx, lanes);
    });
  }
}

template void layer_norm_forward(const NormForward<float>&, int64_t, int64_t);
template void layer_norm_forward(const NormForward<BF16>&, int64_t, int64_t);
template void layer_norm_forward(const NormForward<F16>&, int64_t, int64_t);
template void layer_norm_backward(const NormBackward<float>&, int64_t, int64_t);
template void layer_norm_backward(const NormBackward<BF16>&, int64_t, int64_t);
template void layer_norm_backward(const NormBackward<F16>&, int64_t, int64_t);

}  // namespace deepflow::cpu::DF_ISA
